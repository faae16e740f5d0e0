//! What is put before a text.

/// The prompt of a call: what is put before each text, as a model with prompts was trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prompt<'a> {
    /// The prompt that the model itself puts first; most have none.
    #[default]
    Default,
    /// Nothing.
    None,
    /// A prompt of the model by name, such as `query`.
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
