//! The table of rules, as it is read.

use super::pattern::Pattern;
use std::rc::Rc;

/// The table that this program was built with.
const TABLE: &str = include_str!("../rules.toml");

/// Why the table of rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// It is no table of rules.
    #[error("the table of rules cannot be read")]
    Table(#[from] toml::de::Error),
    /// A pattern is wrong.
    #[error("rule '{id}' has a wrong pattern")]
    Pattern {
        /// The rule.
        id: String,
        /// What is wrong.
        #[source]
        source: regex_lite::Error,
    },
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TableText {
    version: u32,
    symbol: Vec<RuleText>,
    name: Vec<RuleText>,
    frame: Vec<RuleText>,
    module: Vec<RuleText>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    id: String,
    why: String,
    #[serde(rename = "match")]
    pattern: String,
    replace: Option<String>,
    inner: Option<String>,
    #[serde(default)]
    drop: bool,
    #[serde(default)]
    library: bool,
    #[serde(default)]
    outermost: bool,
    label: Option<String>,
}

/// A rule, ready to be used.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: Rc<str>,
    pub(super) pattern: Pattern,
    pub(super) replace: String,
    pub(super) inner: Option<Pattern>,
    pub(super) drop: bool,
    pub(super) outermost: bool,
    pub(super) label: Option<Rc<str>>,
}

/// A rule as people read it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RuleShown {
    /// What it is about: `symbol`, `name`, `frame` or `module`.
    pub table: &'static str,
    /// Its name.
    pub id: String,
    /// Why it is there.
    pub why: String,
}

/// The table of rules.
#[derive(Debug)]
pub struct Rules {
    /// The table's version.
    pub version: u32,
    pub(super) symbol: Vec<Rule>,
    pub(super) name: Vec<Rule>,
    pub(super) frame: Vec<Rule>,
    pub(super) module: Vec<Rule>,
    shown: Vec<RuleShown>,
}

impl Rules {
    /// The rules that this program was built with.
    pub fn built_in() -> Result<Rules, RulesError> {
        Rules::read(TABLE, Ok)
    }

    /// Reads a table, and tells what is wrong with any of its patterns.
    pub fn parse(text: &str) -> Result<Rules, RulesError> {
        Rules::read(text, Pattern::check)
    }

    fn read(text: &str, checked: Checked) -> Result<Rules, RulesError> {
        let table: TableText = toml::from_str(text)?;
        let mut shown = Vec::new();
        let mut read = |name: &'static str, rules: Vec<RuleText>| -> Result<Vec<Rule>, RulesError> {
            rules
                .into_iter()
                .map(|rule| {
                    shown.push(RuleShown { table: name, id: rule.id.clone(), why: rule.why.clone() });
                    Rule::new(rule, checked)
                })
                .collect()
        };
        Ok(Rules {
            version: table.version,
            symbol: read("symbol", table.symbol)?,
            name: read("name", table.name)?,
            frame: read("frame", table.frame)?,
            module: read("module", table.module)?,
            shown,
        })
    }

    #[cfg(test)]
    pub(super) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let rules = [&self.symbol, &self.name, &self.frame, &self.module].into_iter().flatten();
        rules.flat_map(|rule| std::iter::once(&rule.pattern).chain(&rule.inner))
    }

    /// All rules, in the order in which they are tried.
    pub fn shown(&self) -> &[RuleShown] {
        &self.shown
    }
}

/// What is done with a pattern as it is read.
type Checked = fn(Pattern) -> Result<Pattern, regex_lite::Error>;

impl Rule {
    fn new(text: RuleText, checked: Checked) -> Result<Rule, RulesError> {
        debug_assert!(
            text.library || text.drop || text.label.is_some() || text.replace.is_some() || !text.pattern.is_empty()
        );
        let pattern = |pattern: String| {
            checked(Pattern::new(pattern)).map_err(|source| RulesError::Pattern { id: text.id.clone(), source })
        };
        Ok(Rule {
            pattern: pattern(text.pattern)?,
            inner: text.inner.map(pattern).transpose()?,
            id: text.id.as_str().into(),
            replace: text.replace.unwrap_or_default(),
            drop: text.drop,
            outermost: text.outermost,
            label: text.label.map(Into::into),
        })
    }
}
