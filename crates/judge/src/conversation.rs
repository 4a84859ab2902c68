//! Conversations as the text of a question, with the name of who speaks before each message.

use serde_json::Value;

use crate::Language;

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks: `system`, `user`, `assistant`, or another role.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Turn {
    /// A message `{role, content}`.
    ///
    /// # Errors
    /// The reason why it is none.
    pub fn of(message: &Value) -> Result<Self, String> {
        match (&message["role"], &message["content"]) {
            (Value::String(role), Value::String(content)) => {
                Ok(Self { role: role.clone(), content: content.clone() })
            }
            (Value::String(role), _) => Err(format!("a message of {role} has no text as its content")),
            _ => Err("a message has no role".to_owned()),
        }
    }

    /// The name of the role in a language; a role that is none of the usual ones keeps its own.
    fn speaker(&self, language: Language) -> &str {
        match (self.role.as_str(), language) {
            ("system", Language::Chinese) => "系统",
            ("user", Language::Chinese) => "用户",
            ("assistant", Language::Chinese) => "助手",
            ("tool", Language::Chinese) => "工具",
            ("system", Language::English) => "System",
            ("user", Language::English) => "User",
            ("assistant", Language::English) => "Assistant",
            ("tool", Language::English) => "Tool",
            (role, _) => role,
        }
    }
}

/// A conversation as a text: of a single message of the user just that, else each with its speaker.
pub fn conversation(turns: &[Turn], language: Language) -> String {
    if let [Turn { role, content }] = turns
        && role == "user"
    {
        return content.clone();
    }
    let colon = match language {
        Language::Chinese => "：",
        Language::English => ": ",
    };
    let said = |turn: &Turn| format!("{}{colon}{}", turn.speaker(language), turn.content);
    turns.iter().map(said).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turns(messages: &[(&str, &str)]) -> Vec<Turn> {
        let message = |(role, content): &(&str, &str)| json!({ "content": content, "role": role });
        messages.iter().map(|turn| Turn::of(&message(turn)).unwrap()).collect()
    }

    #[test]
    fn one_message_stands_alone_and_several_with_their_speakers() {
        let alone = turns(&[("user", "Why?\n\nNow?")]);
        assert_eq!(conversation(&alone, Language::English), "Why?\n\nNow?");
        let several =
            turns(&[("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "A?\nB?")]);
        let english = "System: Be kind.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: A?\nB?";
        assert_eq!(conversation(&several, Language::English), english);
        let chinese = "系统：Be kind.\n\n用户：Hi\n\n助手：Hello\n\n用户：A?\nB?";
        assert_eq!(conversation(&several, Language::Chinese), chinese);
        assert_eq!(conversation(&turns(&[("critic", "No.")]), Language::Chinese), "critic：No.");
    }

    #[test]
    fn a_message_without_a_text_is_none() {
        for (message, reason) in [
            (json!({ "role": "user", "content": null }), "a message of user has no text as its content"),
            (json!({ "role": "user" }), "a message of user has no text as its content"),
            (json!({ "content": "a" }), "a message has no role"),
        ] {
            assert_eq!(Turn::of(&message), Err(reason.to_owned()));
        }
    }
}
