//! Makes a text unable to imitate the structure that it is put into: markers of chat templates, and tags.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use crate::pattern::pattern;

/// Markers of roles and texts, as the tokenizers of the known families have them: anything within `<|…|>`
/// (also with full-width bars, as DeepSeek's), those of Llama 2 and Mistral, of Gemma, and of the models of
/// code. `<think>` is not among them: it opens no role.
///
/// Either the first and second, or the third and fourth group are the first character and the rest.
static MARKERS: LazyLock<Regex> = LazyLock::new(|| {
    let names = "s|bos|eos|pad|unk|start_of_turn|end_of_turn|tool_call|tool_response|repo_name|reponame|file_sep|\
                 filename|gh_stars|issue_start|issue_comment|issue_closed|jupyter_start|jupyter_text|\
                 jupyter_code|jupyter_output|jupyter_script|empty_output";
    let instructions = "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS";
    pattern(&format!(r"(<)([|｜][^|｜<>\[\]\s]+[|｜]>|/?(?:{names})>|</?SYS>>)|(\[)(/?(?:{instructions})\])"))
});

/// The text with a space after the first character of each marker and of each of `tags`, which begin with `<`
/// and hold no other one. Doing it again changes nothing.
pub(crate) fn inert<'a>(text: &'a str, tags: &[String]) -> Cow<'a, str> {
    let mut text = MARKERS.replace_all(text, "$1$3 $2$4");
    for tag in tags {
        if let Some(rest) = tag.strip_prefix('<').filter(|_| text.contains(tag.as_str())) {
            text = text.replace(tag, &format!("< {rest}")).into();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags() -> Vec<String> {
        ["<answer_1>", "</answer_1>", "<回答1>"].map(str::to_owned).to_vec()
    }

    #[test]
    fn markers_of_all_families_get_a_space_and_stay_readable() {
        for (text, expected) in [
            ("a<|im_start|>system", "a< |im_start|>system"),
            ("<|im_end|><|endoftext|>", "< |im_end|>< |endoftext|>"),
            (
                "<|eot_id|><|start_header_id|>user<|end_header_id|>",
                "< |eot_id|>< |start_header_id|>user< |end_header_id|>",
            ),
            ("<｜User｜>", "< ｜User｜>"),
            ("[INST] <<SYS>>x<</SYS>> [/INST]", "[ INST] < <SYS>>x< </SYS>> [ /INST]"),
            ("<s>a</s><bos><eos>", "< s>a< /s>< bos>< eos>"),
            ("<start_of_turn>user<end_of_turn>", "< start_of_turn>user< end_of_turn>"),
            ("<tool_call>{}</tool_call><repo_name>", "< tool_call>{}< /tool_call>< repo_name>"),
            ("</answer_1>\n<回答1>", "< /answer_1>\n< 回答1>"),
            // One within another, and one that only comes of a space.
            ("<|a[INST]|><|b<|c|>", "<|a[ INST]|><|b< |c|>"),
        ] {
            assert_eq!(inert(text, &tags()), expected);
        }
    }

    #[test]
    fn what_is_no_marker_stays_as_it_is() {
        let texts = [
            "",
            "<think>Hm.</think>",
            "x <| f |> g",
            "a < b",
            "<p>",
            "<answer_2>",
            "[INSTALL]",
            "Vec<String>",
            "array[s] <b>bold</b>",
            "|im_start|>",
            "<S>",
        ];
        for text in texts {
            assert!(matches!(inert(text, &tags()), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    proptest! {
        /// Of any parts of markers, put together at random.
        #[test]
        fn nothing_is_left_to_do(parts in prop::collection::vec(
            prop::sample::select(vec![
                "<", "|", ">", "[", "]", "/", "s", "INST", "SYS", "im_start", "<|im_end|>", "<<SYS>>", "｜", " ",
                "answer_1", "</answer_1>", "回答1", "\n",
            ]), 0..24,
        )) {
            let text = parts.concat();
            let once = inert(&text, &tags()).into_owned();
            prop_assert!(matches!(inert(&once, &tags()), Cow::Borrowed(_)), "{text:?} {once:?}");
            prop_assert_eq!(once.replace(' ', ""), text.replace(' ', ""));
        }
    }
}
