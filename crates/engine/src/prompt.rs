//! What is put before a text.

use crate::ModelInfo;
use embral_types::{Error, ErrorKind, Result};

/// The prompt of a call: what is put before each text, as a model with prompts was trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prompt<'a> {
    /// The prompt that the model itself puts first; most have none.
    #[default]
    Default,
    /// Nothing.
    None,
    /// What the model puts before a query, under whichever name it has it; nothing where it has no such prompt.
    Query,
    /// What the model puts before a document, under whichever name it has it; nothing where it has no such prompt.
    Document,
    /// A prompt of the model by name, such as `clustering`. `query` and `document`, and what models call these two, name the prompt of
    /// that role; where a model has prompts, but none for the role, they are nothing, as it was trained.
    Name(&'a str),
    /// This text, as it is.
    Text(&'a str),
}

/// A prompt as it is used: put before the text, or told to a server with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told<'a> {
    /// Put before the text.
    pub(crate) text: &'a str,
    /// The name of a prompt that a server puts before it.
    pub(crate) name: Option<&'a str>,
}

/// A prompt that outlives its call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeptPrompt {
    Default,
    None,
    Query,
    Document,
    Name(String),
    Text(String),
}

impl From<Prompt<'_>> for KeptPrompt {
    fn from(prompt: Prompt<'_>) -> Self {
        match prompt {
            Prompt::Default => Self::Default,
            Prompt::None => Self::None,
            Prompt::Query => Self::Query,
            Prompt::Document => Self::Document,
            Prompt::Name(name) => Self::Name(name.to_owned()),
            Prompt::Text(text) => Self::Text(text.to_owned()),
        }
    }
}

impl KeptPrompt {
    pub(crate) fn as_prompt(&self) -> Prompt<'_> {
        match self {
            Self::Default => Prompt::Default,
            Self::None => Prompt::None,
            Self::Query => Prompt::Query,
            Self::Document => Prompt::Document,
            Self::Name(name) => Prompt::Name(name),
            Self::Text(text) => Prompt::Text(text),
        }
    }
}

/// What models call the prompt of a query; the first that a model has counts.
const QUERY: [&str; 5] = ["query", "search_query", "retrieval.query", "retrieval-query", "s2p_query"];
/// What models call the prompt of a document.
const DOCUMENT: [&str; 6] =
    ["document", "passage", "search_document", "retrieval.passage", "retrieval-document", "corpus"];

/// Whether models call the prompt of a query so.
pub(crate) fn is_query(name: &str) -> bool {
    QUERY.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl ModelInfo {
    /// The names of the prompts that put something before a text.
    pub fn prompt_names(&self) -> Vec<&str> {
        self.prompts.iter().filter(|(_, text)| !text.is_empty()).map(|(name, _)| name.as_str()).collect()
    }

    /// The text of a prompt.
    ///
    /// # Errors
    /// Where the model has no prompt of that name; the error lists those it has.
    pub fn prompt_text<'a>(&'a self, prompt: Prompt<'a>) -> Result<&'a str> {
        let default = || self.default_prompt.as_ref().and_then(|name| self.prompts.get(name)).map(String::as_str);
        match prompt {
            Prompt::None => Ok(""),
            Prompt::Text(text) => Ok(text),
            Prompt::Default => Ok(default().unwrap_or_default()),
            Prompt::Query => Ok(self.of_role(&QUERY).unwrap_or_default()),
            Prompt::Document => Ok(self.of_role(&DOCUMENT).unwrap_or_default()),
            Prompt::Name(name) => self.named(name),
        }
    }

    fn named(&self, name: &str) -> Result<&str> {
        let known = self.prompt_names();
        if let Some(text) = self.prompts.get(name).filter(|_| !known.is_empty()) {
            return Ok(text);
        }
        let roles: [&[&str]; 2] = [&QUERY, &DOCUMENT];
        let role = roles.into_iter().find(|role| role.iter().any(|known| known.eq_ignore_ascii_case(name)));
        match role {
            Some(role) if !known.is_empty() => Ok(self.of_role(role).unwrap_or_default()),
            _ => Err(self.without(name, &known)),
        }
    }

    /// Of a model behind a server, which keeps the texts to itself: the name of a prompt, or the text that is given as one.
    ///
    /// # Errors
    /// As [`ModelInfo::prompt_text`].
    #[cfg(feature = "remote")]
    pub(crate) fn prompt_name<'a>(&'a self, prompt: Prompt<'a>) -> Result<&'a str> {
        let name_of = |role| self.entry_of(role).map_or("", |(name, _)| name.as_str());
        match prompt {
            Prompt::None | Prompt::Default => Ok(""),
            Prompt::Text(text) => Ok(text),
            Prompt::Query => Ok(name_of(&QUERY)),
            Prompt::Document => Ok(name_of(&DOCUMENT)),
            Prompt::Name(name) if self.prompts.contains_key(name) => Ok(name),
            Prompt::Name(name) => {
                let known: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
                Err(self.without(name, &known))
            }
        }
    }

    fn without(&self, name: &str, known: &[&str]) -> Error {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("{} has no prompt {name:?}; it has: {known}", self.name);
        Error::new(ErrorKind::NotFound, message).hint("give the prompt as text: --prompt-text, or Prompt::Text")
    }

    /// The prompt under the first of these names, in any case.
    fn of_role(&self, role: &[&str]) -> Option<&str> {
        self.entry_of(role).map(|(_, text)| text.as_str())
    }

    fn entry_of(&self, role: &[&str]) -> Option<(&String, &String)> {
        let find = |wanted: &str| self.prompts.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        role.iter().find_map(|wanted| find(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embral_types::{Pooling, Precision};
    use std::collections::BTreeMap;

    fn model(prompts: &[(&str, &str)], default: Option<&str>) -> ModelInfo {
        ModelInfo {
            name: "m".to_owned(),
            fingerprint: String::new(),
            path: None,
            architecture: "bert".to_owned(),
            dimensions: 1,
            width: 1,
            max_tokens: 8,
            parameters: 0,
            layers: 0,
            hidden: 1,
            pooling: Pooling::Mean,
            normalize: true,
            prompts: prompts.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect::<BTreeMap<_, _>>(),
            default_prompt: default.map(str::to_owned),
            matryoshka: Vec::new(),
            precision: Precision::F32,
            weight_bytes: 0,
            device: String::new(),
            graph: None,
            remarks: Vec::new(),
        }
    }

    #[test]
    fn a_role_is_found_under_the_names_that_models_give_it() {
        for (query, document) in [
            ("query", "document"),
            ("search_query", "search_document"),
            ("retrieval.query", "retrieval.passage"),
            ("Retrieval-query", "Retrieval-document"),
            ("query", "passage"),
        ] {
            let model = model(&[(query, "q: "), (document, "d: "), ("clustering", "c: ")], None);
            for (prompt, text) in [
                (Prompt::Query, "q: "),
                (Prompt::Document, "d: "),
                (Prompt::Name("query"), "q: "),
                (Prompt::Name("document"), "d: "),
                (Prompt::Name("passage"), "d: "),
                (Prompt::Name("clustering"), "c: "),
                (Prompt::Default, ""),
                (Prompt::Text("t "), "t "),
            ] {
                assert_eq!(model.prompt_text(prompt).unwrap(), text, "{prompt:?} of {query}");
            }
            let error = model.prompt_text(Prompt::Name("cluster")).unwrap_err().to_string();
            assert!(error.contains("\"cluster\"") && error.contains("clustering") && error.contains(query), "{error}");
        }
    }

    #[test]
    fn a_role_without_a_prompt_is_nothing_where_the_model_has_others_and_an_error_where_it_has_none() {
        let bge = model(&[("query", "Represent: ")], Some("query"));
        assert_eq!(bge.prompt_text(Prompt::Name("document")).unwrap(), "");
        assert_eq!(bge.prompt_text(Prompt::Default).unwrap(), "Represent: ");
        // sentence-transformers writes these two, empty, into every model.
        for prompts in [&[][..], &[("query", ""), ("passage", "")]] {
            let plain = model(prompts, None);
            assert!(plain.prompt_names().is_empty());
            assert_eq!(plain.prompt_text(Prompt::Query).unwrap(), "");
            for name in ["document", "passage"] {
                let error = plain.prompt_text(Prompt::Name(name)).unwrap_err();
                assert!(error.to_string().contains("it has: none"), "{error}");
            }
        }
    }
}
