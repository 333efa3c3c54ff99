//! Which client library a peer says it is.

/// A peer's language. A name or number that nobody knows is `Unknown` and does no harm.
///
/// Source: LanguageCode (4.9.3; RUST and NODE_JS came later).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    Java,
    Cpp,
    Dotnet,
    Python,
    Delphi,
    Erlang,
    Ruby,
    #[default]
    Other,
    Http,
    Go,
    Php,
    Oms,
    Rust,
    NodeJs,
    Unknown,
}

const TABLE: [(Language, &str); 14] = [
    (Language::Java, "JAVA"),
    (Language::Cpp, "CPP"),
    (Language::Dotnet, "DOTNET"),
    (Language::Python, "PYTHON"),
    (Language::Delphi, "DELPHI"),
    (Language::Erlang, "ERLANG"),
    (Language::Ruby, "RUBY"),
    (Language::Other, "OTHER"),
    (Language::Http, "HTTP"),
    (Language::Go, "GO"),
    (Language::Php, "PHP"),
    (Language::Oms, "OMS"),
    (Language::Rust, "RUST"),
    (Language::NodeJs, "NODE_JS"),
];

impl Language {
    /// The name as JSON carries it; none for `Unknown`.
    pub fn name(self) -> Option<&'static str> {
        TABLE.iter().find(|(language, _)| *language == self).map(|(_, name)| *name)
    }

    pub fn from_name(name: &[u8]) -> Self {
        let found = TABLE.iter().find(|(_, known)| known.as_bytes() == name);
        found.map_or(Language::Unknown, |(language, _)| *language)
    }

    /// The number as the binary header carries it; `Unknown` goes out as `Other`.
    pub fn number(self) -> u8 {
        let at = TABLE.iter().position(|(language, _)| *language == self);
        at.unwrap_or(Language::Other as usize) as u8
    }

    pub fn from_number(number: i64) -> Self {
        let found = usize::try_from(number).ok().and_then(|at| TABLE.get(at));
        found.map_or(Language::Unknown, |(language, _)| *language)
    }
}
