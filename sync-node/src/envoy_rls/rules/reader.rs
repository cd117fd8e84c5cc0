//! Reading rules from files in the form of Envoy's reference service, with every problem at once, each with its place.

use super::super::schema::Unit;
use super::super::yaml::{self, Content, Node, Place};
use super::{Level, Limit, Measure, Rule, Rules};
use crate::config::nearest;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes of a file. Rules by hand are far below; it keeps a wrong path, such as a log, from being read into memory.
const FILE_MAX: u64 = 4 << 20;

const UNITS: [(&str, Unit); 7] = [
    ("second", Unit::Second),
    ("minute", Unit::Minute),
    ("hour", Unit::Hour),
    ("day", Unit::Day),
    ("week", Unit::Week),
    ("month", Unit::Month),
    ("year", Unit::Year),
];

/// Everything that is wrong with files of rules; displayed one a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesError {
    problems: Vec<String>,
}

impl RulesError {
    /// Each as `file:line:column: what is wrong, and the fix`.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.problems.iter().map(String::as_str)
    }
}

impl fmt::Display for RulesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for RulesError {}

impl Rules {
    /// Reads files. Each document of each is a domain.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn load(files: &[PathBuf]) -> Result<Self, RulesError> {
        let mut reading = Reading::default();
        for file in files {
            match text_of(file) {
                Ok(text) => reading.file(file, &text),
                Err(message) => reading.problems.push(format!("{}: {message}", file.display())),
            }
        }
        reading.finish()
    }

    /// Reads a text. `file` is named in errors.
    ///
    /// ```
    /// use sync_node::envoy_rls::Rules;
    ///
    /// let text = "domain: web\ndescriptors:\n- key: path\n  rate_limit: {unit: mintue, requests_per_unit: 10}";
    /// let error = Rules::parse(text, "rules.yaml".as_ref()).unwrap_err();
    /// assert!(error.to_string().starts_with("rules.yaml:4:22: \"mintue\" is not a unit; did you mean minute?"));
    /// ```
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(text: &str, file: &Path) -> Result<Self, RulesError> {
        let mut reading = Reading::default();
        reading.file(file, text);
        reading.finish()
    }
}

fn text_of(file: &Path) -> Result<String, String> {
    let length = std::fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?.len();
    if length > FILE_MAX {
        return Err(format!("has {length} bytes; rules have at most {FILE_MAX}, write several files"));
    }
    std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))
}

/// What was read so far.
#[derive(Debug, Default)]
struct Reading {
    rules: Rules,
    /// Where each domain was written.
    places: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reading {
    fn finish(self) -> Result<Rules, RulesError> {
        if self.problems.is_empty() { Ok(self.rules) } else { Err(RulesError { problems: self.problems }) }
    }

    fn file(&mut self, file: &Path, text: &str) {
        let mut problems = Problems::default();
        match yaml::read(text) {
            Ok(documents) => {
                if documents.is_empty() {
                    problems.add(
                        Place { line: 1, column: 1 },
                        "no rules; write at least domain: NAME".to_owned(),
                    );
                }
                for document in &documents {
                    self.document(file, document, &mut problems);
                }
            }
            Err(malformed) => problems.add(malformed.place, malformed.message),
        }
        problems.0.sort_by_key(|(place, _)| *place);
        let located = problems.0.into_iter().map(|(place, message)| at(file, place) + ": " + &message);
        self.problems.extend(located);
    }

    fn document(&mut self, file: &Path, node: &Node, problems: &mut Problems) {
        let Some(mut table) = Table::new(node, "a domain", problems) else { return };
        let domain = table.require("domain", "NAME", text, problems);
        let level = table.read("descriptors", level, problems);
        table.finish(problems);
        let Some(domain) = domain else { return };
        if let Some(first) = self.places.insert(domain.clone(), at(file, node.place)) {
            problems.add(
                node.place,
                format!("domain {domain:?} is at {first} already; put its descriptors there"),
            );
        }
        self.rules.domains.insert(domain, level.unwrap_or_default());
    }
}

fn at(file: &Path, place: Place) -> String {
    format!("{}:{}:{}", file.display(), place.line, place.column)
}

#[derive(Debug, Default)]
struct Problems(Vec<(Place, String)>);

impl Problems {
    fn add(&mut self, place: Place, message: String) {
        self.0.push((place, message));
    }
}

/// What reads a value: `None` if it is wrong and reported.
type Read<T> = fn(&Node, &mut Problems) -> Option<T>;

/// A table and the keys asked of it so far: what was never asked for is unknown.
struct Table<'n> {
    what: &'static str,
    place: Place,
    pairs: &'n [(Node, Node)],
    known: Vec<&'static str>,
}

impl<'n> Table<'n> {
    fn new(node: &'n Node, what: &'static str, problems: &mut Problems) -> Option<Self> {
        match &node.content {
            Content::Table(pairs) => Some(Self { what, place: node.place, pairs, known: Vec::new() }),
            Content::Text(_) | Content::List(_) => {
                problems.add(node.place, format!("{what} must be a table of keys and values"));
                None
            }
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.pairs.iter().find(|(name, _)| name.is_text(key)).map(|(_, value)| value)
    }

    fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(name, _)| name.is_text(key))
    }

    fn read<T>(&mut self, key: &'static str, read: Read<T>, problems: &mut Problems) -> Option<T> {
        read(self.get(key)?, problems)
    }

    fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: Read<T>,
        problems: &mut Problems,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            problems.add(self.place, format!("{} needs `{key}`; add {key}: {example}", self.what));
            return None;
        }
        self.read(key, read, problems)
    }

    /// A key of the reference service that means nothing here.
    fn refuse(&mut self, key: &'static str, why: &str, problems: &mut Problems) {
        if let Some((name, _)) = self.pairs.iter().find(|(name, _)| name.is_text(key)) {
            self.known.push(key);
            problems.add(name.place, format!("`{key}` is not supported: {why}; remove it"));
        }
    }

    fn finish(self, problems: &mut Problems) {
        for (key, _) in self.pairs {
            let Content::Text(name) = &key.content else { continue };
            if self.known.contains(&name.as_str()) {
                continue;
            }
            let hint = match nearest(name, &self.known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it knows {}", self.known.join(", ")),
            };
            problems.add(key.place, format!("unknown key `{name}` in {}; {hint}", self.what));
        }
    }
}

impl Node {
    fn is_text(&self, text: &str) -> bool {
        matches!(&self.content, Content::Text(own) if own == text)
    }
}

fn text(node: &Node, problems: &mut Problems) -> Option<String> {
    match &node.content {
        Content::Text(text) if !text.is_empty() => Some(text.clone()),
        _ => {
            problems.add(node.place, "must be a text that is not empty".to_owned());
            None
        }
    }
}

/// The value of a descriptor; an empty one is none.
fn value(node: &Node, problems: &mut Problems) -> Option<String> {
    match &node.content {
        Content::Text(text) => Some(text.clone()),
        Content::List(_) | Content::Table(_) => {
            problems.add(node.place, "a value must be a text".to_owned());
            None
        }
    }
}

fn flag(node: &Node, problems: &mut Problems) -> Option<bool> {
    match &node.content {
        Content::Text(text) if text == "true" => Some(true),
        Content::Text(text) if text == "false" => Some(false),
        _ => {
            problems.add(node.place, "must be true or false".to_owned());
            None
        }
    }
}

fn count(node: &Node, problems: &mut Problems) -> Option<u32> {
    let number = match &node.content {
        Content::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    if number.is_none() {
        problems.add(node.place, format!("must be a whole number from 0 to {}", u32::MAX));
    }
    number
}

fn unit(node: &Node, problems: &mut Problems) -> Option<Unit> {
    let Content::Text(text) = &node.content else {
        problems.add(node.place, "a unit must be a word, such as minute".to_owned());
        return None;
    };
    let found = UNITS.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    if found.is_none() {
        let names = UNITS.map(|(name, _)| name);
        let hint = match nearest(&text.to_lowercase(), &names) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("write {}", names.join(", ")),
        };
        problems.add(node.place, format!("{text:?} is not a unit; {hint}"));
    }
    found.map(|(_, unit)| unit)
}

fn list<'n>(node: &'n Node, problems: &mut Problems) -> Option<&'n [Node]> {
    match &node.content {
        Content::List(nodes) => Some(nodes),
        Content::Text(text) if text.is_empty() => Some(&[]),
        Content::Text(_) | Content::Table(_) => {
            problems.add(node.place, "must be a list; begin each of its parts with a dash".to_owned());
            None
        }
    }
}

/// What a table says about one entry, without its key and value.
fn level(node: &Node, problems: &mut Problems) -> Option<Level> {
    let mut level = Level::default();
    for node in list(node, problems)? {
        let Some(mut table) = Table::new(node, "a descriptor", problems) else { continue };
        let key = table.require("key", "NAME", text, problems);
        let value = table.read("value", value, problems).unwrap_or_default();
        let limit = table.read("rate_limit", limit, problems);
        let within = table.read("descriptors", self::level, problems);
        let is_shadow = table.read("shadow_mode", flag, problems).unwrap_or(false);
        let is_shared = table.read("share_threshold", flag, problems).unwrap_or(false);
        // Of metrics, which the node keeps by zone.
        let _ = table.read("detailed_metric", flag, problems);
        let _ = table.read("value_to_metric", flag, problems);
        table.refuse("quota_mode", "every limit decides here", problems);
        table.refuse("metadata", "answers carry no metadata", problems);
        if is_shared && !value.ends_with('*') {
            let place = table.get("share_threshold").map_or(node.place, |node| node.place);
            problems.add(
                place,
                "`share_threshold` means nothing without a value that ends with *; remove it".to_owned(),
            );
        }
        table.finish(problems);
        let limit = limit.map(|limit| Limit { is_shadow, ..limit });
        let rule = Rule { limit, is_shared, level: within.unwrap_or_default() };
        if let Some(key) = key {
            let shown = if value.is_empty() { key.clone() } else { format!("{key} {value}") };
            if !level.add(key, &value, rule) {
                problems.add(
                    node.place,
                    format!("there is a descriptor {shown:?} at this level already; remove one"),
                );
            }
        }
    }
    Some(level)
}

impl Level {
    /// False: it has a rule for the same.
    fn add(&mut self, key: String, value: &str, rule: Rule) -> bool {
        let values = self.keys.entry(key).or_default();
        if value.is_empty() {
            return values.any.replace(rule).is_none();
        }
        match value.strip_suffix('*') {
            Some(prefix) => {
                let is_new = values.wildcards.iter().all(|(known, _)| known != prefix);
                values.wildcards.push((prefix.to_owned(), rule));
                is_new
            }
            None => values.exact.insert(value.to_owned(), rule).is_none(),
        }
    }
}

fn limit(node: &Node, problems: &mut Problems) -> Option<Limit> {
    let mut table = Table::new(node, "`rate_limit`", problems)?;
    let is_unlimited = table.read("unlimited", flag, problems).unwrap_or(false);
    let name = table.read("name", text, problems).unwrap_or_default();
    let replaces = table.read("replaces", replaces, problems).unwrap_or_default();
    let measure = if is_unlimited {
        for key in ["unit", "requests_per_unit"] {
            if let Some(node) = table.get(key) {
                problems.add(node.place, format!("`{key}` contradicts `unlimited`; remove one of them"));
            }
        }
        Some(Measure::Unlimited)
    } else {
        let unit = table.require("unit", "minute", unit, problems);
        let requests = table.require("requests_per_unit", "100", count, problems);
        unit.zip(requests).and_then(|(unit, requests)| match Measure::counted(requests, unit) {
            Ok(measure) => Some(measure),
            Err(error) => {
                problems.add(node.place, error.to_string());
                None
            }
        })
    };
    table.finish(problems);
    Some(Limit { measure: measure?, name, replaces, is_shadow: false })
}

fn replaces(node: &Node, problems: &mut Problems) -> Option<HashSet<String>> {
    let mut names = HashSet::new();
    for node in list(node, problems)? {
        let Some(mut table) = Table::new(node, "`replaces`", problems) else { continue };
        names.extend(table.require("name", "NAME", text, problems));
        table.finish(problems);
    }
    Some(names)
}
