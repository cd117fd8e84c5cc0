//! The files of this repository, for tests of its documents and house rules.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

/// All files of the repository with one of these extensions: path from the root, text. Build output and hidden folders are
/// left out, except `.ci`.
///
/// # Panics
/// If a file cannot be read.
pub fn files(extensions: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("a folder is readable").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                let hidden = name.starts_with('.') && name != ".ci";
                if !hidden && !name.starts_with("target") && name != "node_modules" {
                    folders.push(path);
                }
                continue;
            }
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if extensions.contains(&extension) {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                found.push((path.strip_prefix(root()).expect("under the root").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// A fenced block of a Markdown file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The line of its opening fence, counted from 1.
    pub line: usize,
    /// What follows the opening fence, such as `sh tested`.
    pub info: String,
    /// The lines between the fences.
    pub text: String,
}

/// The fenced blocks of a Markdown text.
pub fn fences(markdown: &str) -> Vec<Fence> {
    let mut found = Vec::new();
    let mut open: Option<Fence> = None;
    for (index, line) in markdown.lines().enumerate() {
        match (&mut open, line.trim().strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Fence { line: index + 1, info: info.trim().to_owned(), text: String::new() });
            }
            (None, None) => {}
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(fence), None) => {
                fence.text.push_str(line);
                fence.text.push('\n');
            }
        }
    }
    found
}

/// The block of a language in a document, the first if `nth` is 0.
///
/// # Panics
/// If there is none.
pub fn block(document: &str, language: &str, nth: usize) -> String {
    let markdown = fs::read_to_string(root().join(document)).unwrap_or_else(|e| panic!("{document}: {e}"));
    let block = fences(&markdown).into_iter().filter(|fence| fence.info == language).nth(nth);
    block.unwrap_or_else(|| panic!("block {nth} of {language} in {document}")).text
}

/// A text with other words in some places, which all have to be there.
///
/// # Panics
/// If one is not.
pub fn change(mut text: String, changes: &[(&str, String)]) -> String {
    for (old, new) in changes {
        assert!(text.contains(old), "{old} in {text}");
        text = text.replace(old, new);
    }
    text
}
