//! Reading a TOML tree key by key and collecting every error on the way, each with its place.
//!
//! The tempting alternative, a derived `Deserialize`, stops at the first error. Here a [`Section`] is asked for its keys one after the other;
//! what cannot be parsed is reported and read as its default, so that the rest is still looked at; what was never asked for is unknown. The
//! list of known keys is therefore the list of keys that are read, and cannot differ from it.

use super::values::Parsed;
use super::{Errors, Place, Problem};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// How alike an unknown key and a known one must be to be named as what was probably meant. 0 is nothing in common, 1 is equal.
const LIKENESS_MIN: f64 = 0.5;

/// Where errors and places of one file are collected.
#[derive(Debug)]
pub(super) struct Report {
    file: PathBuf,
    text: String,
    problems: RefCell<Vec<Problem>>,
    places: RefCell<BTreeMap<String, Place>>,
    keys: RefCell<BTreeSet<String>>,
}

/// What reading a file leaves behind besides its values.
pub(super) struct Outcome {
    /// Where each key that was written stands, by its path (`zone_sync.listen`, `keyval_zone.one.size`).
    pub(super) places: BTreeMap<String, Place>,
    /// Every key that was looked for, by table (`zone_sync.listen`, `keyval_zone.size`).
    pub(super) keys: BTreeSet<String>,
}

impl Report {
    pub(super) fn new(file: &Path, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            text: text.to_owned(),
            problems: RefCell::default(),
            places: RefCell::default(),
            keys: RefCell::default(),
        }
    }

    /// The folder that relative paths start from: the one the file is in.
    pub(super) fn folder(&self) -> &Path {
        self.file.parent().unwrap_or_else(|| Path::new(""))
    }

    pub(super) fn problem(&self, at: usize, message: impl Into<String>) {
        let place = self.place(at);
        self.problems.borrow_mut().push(Problem { file: self.file.clone(), place, message: message.into() });
    }

    /// A byte offset as line and column, both from 1; the column counts characters.
    pub(super) fn place(&self, at: usize) -> Place {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    /// Ends the reading: the places if all went well, every problem in the order of the file otherwise.
    pub(super) fn finish(self) -> Result<Outcome, Errors> {
        let mut problems = self.problems.into_inner();
        if problems.is_empty() {
            return Ok(Outcome { places: self.places.into_inner(), keys: self.keys.into_inner() });
        }
        problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
        Err(Errors { problems })
    }
}

/// One table of the file and the keys asked of it so far.
pub(super) struct Section<'r, 't> {
    report: &'r Report,
    /// As it is written: `[zone_sync]`, `[[keyval_zone]]`.
    title: String,
    /// What the paths of its keys begin with: empty, `zone_sync.`, `keyval_zone.one.`; and the same without names of zones, for the list of keys.
    path: String,
    kind: String,
    table: &'t DeTable<'t>,
    at: usize,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
    sound: Cell<bool>,
}

impl<'r, 't> Section<'r, 't> {
    /// The whole file.
    pub(super) fn root(report: &'r Report, table: &'t DeTable<'t>) -> Self {
        Self::new(report, "the file".to_owned(), String::new(), String::new(), table, 0)
    }

    fn new(
        report: &'r Report,
        title: String,
        path: String,
        kind: String,
        table: &'t DeTable<'t>,
        at: usize,
    ) -> Self {
        Self {
            report,
            title,
            path,
            kind,
            table,
            at,
            known: Vec::new(),
            refused: Vec::new(),
            sound: Cell::new(true),
        }
    }

    /// The value of a key, with the place of the value.
    pub(super) fn get(&mut self, key: &'static str) -> Option<(&'t DeValue<'t>, Range<usize>)> {
        self.known.push(key);
        self.report.keys.borrow_mut().insert(format!("{}{key}", self.kind));
        let value = self.table.get(key)?;
        let span = value.span();
        self.report.places.borrow_mut().insert(format!("{}{key}", self.path), self.report.place(span.start));
        Some((value.get_ref(), span))
    }

    /// Whether the key is written, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether everything read from this table so far was right, so that values may be compared with each other.
    pub(super) fn sound(&self) -> bool {
        self.sound.get()
    }

    /// An optional key; `None` if it is not written, or wrong and reported.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<T> {
        let (value, span) = self.get(key)?;
        match parse(value) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem_at(span.start, format!("`{key}` {message}"));
                None
            }
        }
    }

    /// A key that must be written; `example` says how.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parse: impl FnOnce(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.known.push(key);
            self.report.keys.borrow_mut().insert(format!("{}{key}", self.kind));
            self.problem_at(self.at, format!("{} needs `{key}`; add {key} = {example}", self.title));
            return None;
        }
        self.read(key, parse)
    }

    /// A table within this one.
    pub(super) fn table(&mut self, key: &'static str) -> Option<Self> {
        let (value, span) = self.get(key)?;
        match value.as_table() {
            Some(table) => Some(self.inner(key, None, table, span.start)),
            None => {
                self.problem_at(span.start, format!("`{key}` must be a table; write [{}{key}]", self.kind));
                None
            }
        }
    }

    /// The tables of `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let Some((value, span)) = self.get(key) else { return Vec::new() };
        let Some(values) = value.as_array() else {
            let fix = if value.is_table() { "with two brackets on each side, " } else { "" };
            self.problem_at(
                span.start,
                format!("`{key}` may stand more than once; write it {fix}as [[{key}]]"),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for value in values {
            match value.get_ref().as_table() {
                Some(table) => {
                    let name = table.get("name").and_then(|name| name.get_ref().as_str()).unwrap_or_default();
                    sections.push(self.inner(key, Some(name), table, value.span().start));
                }
                None => {
                    self.problem_at(value.span().start, format!("`{key}` must be tables; write [[{key}]]"))
                }
            }
        }
        sections
    }

    fn inner(&self, key: &str, name: Option<&str>, table: &'t DeTable<'t>, at: usize) -> Self {
        let kind = format!("{}{key}", self.kind);
        let (title, path) = match name {
            Some(name) => (format!("[[{kind}]]"), format!("{}{key}.{name}.", self.path)),
            None => (format!("[{kind}]"), format!("{}{key}.", self.path)),
        };
        Section::new(self.report, title, path, format!("{kind}."), table, at)
    }

    pub(super) fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// A key that operators may bring along from NGINX and that means nothing here.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str) {
        if self.has(key) {
            self.refused.push(key);
            self.problem(key, format!("`{key}` {why}"));
        }
    }

    /// Where the value of `key` stands, or the head of the table if it is not written.
    pub(super) fn position(&self, key: &str) -> usize {
        self.table.get(key).map_or(self.at, |value| value.span().start)
    }

    /// Reports a problem at the value of `key`, or at the head of the table if the key is not written.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.problem_at(self.position(key), message);
    }

    fn problem_at(&self, at: usize, message: impl Into<String>) {
        self.sound.set(false);
        self.report.problem(at, message);
    }

    pub(super) fn report(&self) -> &'r Report {
        self.report
    }

    /// Ends the table: a key that nobody asked for is unknown.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) || self.refused.contains(&name) {
                continue;
            }
            let message = match nearest(name, &self.known) {
                Some(near) => format!("unknown key `{name}` in {}; did you mean `{near}`?", self.title),
                None => format!("unknown key `{name}` in {}; it knows {}", self.title, self.known.join(", ")),
            };
            self.report.problem(key.span().start, message);
        }
    }
}

/// The known key that was probably meant.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(name, key), *key))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}
