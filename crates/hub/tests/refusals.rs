//! What the Hub refuses, and what is refused of what it says.

use collimate_hub::{HubError, HubId, Request};

use super::hub::*;
use super::scripted::Reply;

/// What comes of a Hub that gives this answer to everything.
fn answered(reply: Reply) -> HubError {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::with(model(), move |_, _| Some(reply.clone()), |_, _| None);
    let error = hub.fetch(cache.path()).unwrap_err();
    assert!(!format!("{error:?} {error}").contains(TOKEN), "{error}");
    error
}

#[test]
fn a_refusal_is_told_in_the_hubs_words_and_without_the_token() {
    let said = Reply::raw(format!(
        "HTTP/1.1 403 X\r\nx-error-message: ask for access with {TOKEN}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    ));
    let error = answered(said);
    assert!(
        matches!(&error, HubError::Refused { with_token: true, message, .. } if message == "ask for access with [token]")
    );
    let gone = answered(Reply::json(404, "", &serde_json::json!({"error": "Repository not found"})));
    assert_eq!(gone.to_string(), "the Hub knows no model org/name at `main` (Repository not found)");
    assert!(matches!(answered(Reply::error(401, "", "x", "Invalid username")), HubError::Refused { .. }));
    assert!(matches!(answered(Reply::error(400, "", "x", "no")), HubError::Status { status: 400, .. }));
    assert!(matches!(answered(Reply::error(503, "", "x", "no")), HubError::GaveUp { attempts: 3, .. }));
}

#[test]
fn an_answer_that_is_none_of_a_hub_is_said_to_be_so() {
    for body in [
        serde_json::json!("<html>log in</html>"),
        serde_json::json!({"sha": "../../x", "siblings": []}),
        serde_json::json!({"sha": COMMIT}),
    ] {
        assert!(matches!(answered(Reply::json(200, "", &body)), HubError::Strange { .. }), "{body}");
    }
    let to_itself =
        Reply::raw("HTTP/1.1 302 X\r\nlocation: /again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(answered(to_itself).to_string().contains("more than 8 times"));
    let nowhere = Reply::raw(
        "HTTP/1.1 302 X\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    assert!(matches!(answered(nowhere), HubError::Strange { .. }));
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused_before_anything_is_fetched() {
    for name in ["../../../evil.json", "/etc/evil", "a/../../evil", "..\\evil"] {
        let error = answered(listing(&["model.safetensors", name]));
        assert!(matches!(&error, HubError::UnsafeName { name: found, .. } if found == name), "{error}");
    }
}

#[test]
fn checksums_that_are_paths_are_refused() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::with(
        model(),
        |_, seen| {
            seen.line.starts_with("HEAD").then(|| head(200, "etag: \"../../../evil\"\r\n", 3, seen, b""))
        },
        |_, _| None,
    );
    assert!(matches!(hub.fetch(cache.path()), Err(HubError::Strange { .. })));
    let other = Hub::with(
        model(),
        |_, seen| {
            seen.line.starts_with("HEAD").then(|| {
                Reply::raw("HTTP/1.1 200 X\r\nx-repo-commit: abc\r\netag: \"x\"\r\ncontent-length: 3\r\nconnection: close\r\n\r\n")
            })
        },
        |_, _| None,
    );
    assert!(other.fetch(cache.path()).unwrap_err().to_string().contains("another commit"));
    // What a redirect to another host says of itself is not said of the file.
    let elsewhere = Hub::with(
        model(),
        |_, seen| {
            let headers = "location: http://127.0.0.1:1/x\r\netag: \"x\"\r\n";
            seen.line.starts_with("HEAD").then(|| head(302, headers, 3, seen, b""))
        },
        |_, _| None,
    );
    assert!(elsewhere.fetch(cache.path()).unwrap_err().to_string().contains("no checksum"));
}

#[test]
fn a_repository_of_pickles_is_refused_with_the_reason() {
    let error = answered(listing(&["config.json", "pytorch_model.bin"]));
    let text = error.to_string();
    assert!(text.contains("only as pickles") && text.contains("can run any program"), "{text}");
}

#[test]
fn an_index_that_names_what_is_not_there_is_refused() {
    for shard in ["pytorch_model.bin", "../x.safetensors", "none.safetensors"] {
        let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
        let files = [("model.safetensors.index.json", index.as_str()), ("pytorch_model.bin", "x")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).to_vec();
        let cache = tempfile::tempdir().unwrap();
        assert!(matches!(Hub::start(files).fetch(cache.path()), Err(HubError::Strange { .. })), "{shard}");
    }
}

#[test]
fn what_cannot_be_a_name_is_refused_at_once() {
    for id in [
        "",
        "name",
        "a/b/c",
        "../b",
        "a/..",
        "a/b--c",
        "a//b",
        "-a/b",
        "a/b.",
        "a b/c",
        "ä/b",
        &"a/".repeat(60),
    ] {
        assert!(id.parse::<HubId>().is_err(), "{id}");
    }
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::start(model());
    for revision in ["", "..", "../x", "/x", "a\\b", "a b"] {
        let request = Request { revision: revision.to_owned(), ..request() };
        assert!(
            matches!(run(&request, &hub.options(cache.path())), Err(HubError::Revision { .. })),
            "{revision}"
        );
    }
    for endpoint in ["huggingface.co", "ftp://a", "http://me:pw@a", "http://a?key=x", ""] {
        let mut options = hub.options(cache.path());
        options.endpoint = endpoint.to_owned();
        let error = run(&request(), &options).unwrap_err();
        assert!(matches!(&error, HubError::Endpoint { .. }) && !error.to_string().contains("pw"), "{error}");
    }
    assert!(hub.hub.seen().is_empty());
}

#[test]
fn sizes_that_no_file_has_are_refused_before_anything_is_fetched() {
    let index = "model.safetensors.index.json";
    let whole = "model.safetensors";
    let most = i64::MAX as u64;
    for (name, other, size) in
        [(index, index, (64 << 20) + 1), (whole, whole, most + 1), (whole, "config.json", most)]
    {
        let hub = Hub::with(
            model(),
            move |_, seen| {
                if !seen.line.starts_with("HEAD") {
                    return Some(listing(&["tokenizer.json", "vocab.json", other, name]));
                }
                let headers = format!("etag: \"x\"\r\nx-linked-size: {size}\r\n");
                Some(head(200, &headers, 0, seen, b""))
            },
            |_, _| None,
        );
        let cache = tempfile::tempdir().unwrap();
        let error = hub.fetch(cache.path()).unwrap_err();
        assert!(matches!(error, HubError::Strange { .. }), "{name} {size}: {error}");
        assert!(hub.hub.seen()[1..].iter().all(|seen| seen.line.starts_with("HEAD")));
    }
}
