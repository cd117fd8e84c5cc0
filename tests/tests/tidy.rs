//! House rules that a machine can check. Each rule is a function from a file to what is wrong with it, and is tested itself:
//! a rule that finds nothing anywhere may be a rule that does not work.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use tests::{Fence, fences, files, root};

/// Longest Rust file, lines.
const LINES_MAX: usize = 800;

/// A complaint: line, counted from 1, and what is wrong there.
type Complaint = (usize, String);

/// Words that must not appear. Written in two pieces, so that this file does not contain them.
const FORBIDDEN: [(&str, &str, &str); 8] = [
    ("/wo", "rk/", "a path of somebody's machine"),
    ("/ro", "ot/", "a path of somebody's machine"),
    ("/ho", "me/", "a path of somebody's machine"),
    ("TO", "DO", "do it, or open an issue"),
    ("FIX", "ME", "fix it"),
    ("XX", "X", "say what is meant"),
    ("todo", "!(", "do it"),
    ("#[ign", "ore", "a test that is not run is no test"),
];

/// Second words for terms of the glossary, in two pieces, with the term to use.
const SECOND_WORDS: [(&str, &str, &str); 10] = [
    ("anti-", "entropy", "repair"),
    ("antien", "tropy", "repair"),
    ("vector ", "clock", "version vector"),
    ("version ", "clock", "version vector"),
    ("re", "sync", "catch-up or repair"),
    ("full ", "sync", "catch-up"),
    ("boot", "strap", "catch-up"),
    ("grave", "stone", "tombstone"),
    ("water", "mark", "version vector, or through_seq"),
    ("chunk of ", "records", "batch"),
];

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn too_long(text: &str) -> Vec<Complaint> {
    let lines = text.lines().count();
    if lines <= LINES_MAX {
        vec![]
    } else {
        vec![(lines, format!("{lines} lines, {LINES_MAX} are the most"))]
    }
}

fn forbidden_words(text: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (line, content) in numbered(text) {
        for (head, tail, why) in FORBIDDEN {
            let word = format!("{head}{tail}");
            if content.contains(&word) {
                found.push((line, format!("{word}: {why}")));
            }
        }
    }
    found
}

/// Whole words only, in any case, with or without a plural: the word for synchronizing anew is no part of another. A word alone between quotes is somebody's
/// name for it, such as that of a scenario.
fn second_words(text: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (line, content) in numbered(text) {
        let content = content.to_lowercase();
        for (head, tail, term) in SECOND_WORDS {
            let word = format!("{head}{tail}");
            let whole = content.match_indices(&word).any(|(at, _)| {
                let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                let after = &content[at + word.len()..];
                let after = after.strip_prefix('s').unwrap_or(after);
                let (before, after) = (content[..at].chars().next_back(), after.chars().next());
                let is_quoted = before == after && matches!(after, Some('"' | '`'));
                !letter(before) && !letter(after) && !is_quoted
            });
            if whole {
                found.push((line, format!("{word}: the glossary says {term}")));
            }
        }
    }
    found
}

/// A test that asserts how long something took fails on a busy machine and proves nothing on an idle one.
fn wall_clock_asserts(text: &str) -> Vec<Complaint> {
    let asserts = numbered(text).filter(|(_, line)| line.trim_start().starts_with("assert"));
    let on_time = asserts.filter(|(_, line)| line.contains(concat!("elapsed", "(")));
    on_time.map(|(line, _)| (line, "an assertion on elapsed time".to_owned())).collect()
}

/// Inline links `[text](target)` of a Markdown text outside of fences: line and target.
fn links(markdown: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (line, content) in numbered(markdown) {
        if content.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in content.match_indices("](") {
            if let Some((target, _)) = content[at + 2..].split_once(')') {
                found.push((line, target.to_owned()));
            }
        }
    }
    found
}

/// Anchors of a Markdown text's headings, as GitHub makes them.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let headings = markdown.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// `a/b/../c` → `a/c`. `None` if it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    Some(normal)
}

/// Links to files, and anchors in Markdown files, that are not there. `read` gives a file of the repository, and an empty text
/// for a folder.
fn dangling_links(path: &Path, markdown: &str, read: &dyn Fn(&Path) -> Option<String>) -> Vec<Complaint> {
    let mut found = Vec::new();
    for (line, link) in links(markdown) {
        if link.contains("://") || link.starts_with("mailto:") {
            continue;
        }
        let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let target = if file.is_empty() {
            Some(path.to_owned())
        } else {
            normal(&path.parent().unwrap_or_else(|| Path::new("")).join(file))
        };
        let text =
            if file.is_empty() { Some(markdown.to_owned()) } else { target.and_then(|target| read(&target)) };
        match text {
            None => found.push((line, format!("{link}: no such file"))),
            Some(text) if !anchor.is_empty() && !anchors(&text).contains(anchor) => {
                found.push((line, format!("{link}: no such heading")));
            }
            Some(_) => {}
        }
    }
    found
}

/// Commands of a document that nothing runs. A block `sh tested` is run by the test `documents`; of a block `sh`, every
/// command must be one that CI runs, literally. Other blocks (`text`, `toml`, `console`) are not meant to be pasted.
fn untested_commands(markdown: &str, ci: &str) -> Vec<Complaint> {
    let mut found = Vec::new();
    for Fence { line, info, text } in fences(markdown) {
        if info.is_empty() {
            found.push((line, "a block without a language".to_owned()));
        }
        if ["bash", "shell", "shell-session"].contains(&info.as_str()) {
            found.push((line, format!("{info}: write `sh tested`, or `sh` for commands of CI")));
        }
        if info != "sh" {
            continue;
        }
        for (offset, command) in text.lines().enumerate() {
            let command = command.split(" #").next().unwrap_or_default().trim();
            if !command.is_empty() && !command.starts_with('#') && !ci.contains(command) {
                found.push((line + 1 + offset, format!("nothing runs `{command}`")));
            }
        }
    }
    found
}

/// Applies a rule to files and fails with all complaints at once.
fn check(files: &[(PathBuf, String)], rule: impl Fn(&Path, &str) -> Vec<Complaint>) {
    assert!(!files.is_empty(), "no files to check");
    let complaints = files.iter().flat_map(|(path, text)| {
        rule(path, text).into_iter().map(move |(line, what)| format!("{}:{line}: {what}", path.display()))
    });
    let complaints: Vec<String> = complaints.collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn files_are_short_enough_to_hold_one_idea() {
    assert_eq!(too_long(&"line\n".repeat(LINES_MAX)), []);
    assert_eq!(too_long(&"line\n".repeat(LINES_MAX + 1)).len(), 1);
    check(&files(&["rs"]), |_, text| too_long(text));
}

#[test]
fn forbidden_words_do_not_occur() {
    assert_eq!(forbidden_words("fine\n"), []);
    for (head, tail, _) in FORBIDDEN {
        assert_eq!(forbidden_words(&format!("fine\n// {head}{tail} later\n"))[0].0, 2);
    }
    check(&files(&["rs", "md", "toml", "proto", "yml"]), |_, text| forbidden_words(text));
}

#[test]
fn the_glossary_has_one_word_for_each_thing() {
    assert_eq!(second_words("resyncing is part of another word\n"), []);
    assert_eq!(second_words(concat!("the scenario `boot", "strap`\n")), []);
    assert_eq!(second_words(concat!("`boot", "strap a node`\n")).len(), 1);
    for (head, tail, _) in SECOND_WORDS {
        assert_eq!(second_words(&format!("fine\nThe {head}{tail}s.\n"))[0].0, 2, "{head}{tail}");
        assert_eq!(second_words(&format!("{}{tail}\n", head.to_uppercase())).len(), 1, "{head}{tail}");
    }
    // Pingora has words of its own.
    let ours = |path: &Path| !path.starts_with("examples/pingora");
    let files: Vec<_> = files(&["rs", "md", "proto"]).into_iter().filter(|(path, _)| ours(path)).collect();
    check(&files, |_, text| second_words(text));
}

#[test]
fn no_test_asserts_how_long_something_took() {
    assert_eq!(wall_clock_asserts(concat!("assert!(x < 3);\nlet t = start.elapsed", "();\n")), []);
    assert_eq!(wall_clock_asserts(concat!("\n    assert!(start.elapsed", "() < limit);\n"))[0].0, 2);
    check(&files(&["rs"]), |_, text| wall_clock_asserts(text));
}

#[test]
fn links_in_documents_resolve() {
    let read = |path: &Path| match path.to_str() {
        Some("docs/there.md") => Some("# A heading, with `code`\n".to_owned()),
        _ => None,
    };
    let sample = "[a](there.md) [b](there.md#a-heading-with-code) [c](https://example.com/x)\n[d](absent.md)\n\
        [e](there.md#absent)\n```text\n[f](absent.md)\n```\n[g](#self)\n## Self\n[h](../../outside.md)\n";
    let lines: Vec<usize> =
        dangling_links(Path::new("docs/here.md"), sample, &read).iter().map(|c| c.0).collect();
    assert_eq!(lines, [2, 3, 9]);

    let read = |path: &Path| {
        let path = root().join(path);
        if path.is_dir() { Some(String::new()) } else { std::fs::read_to_string(path).ok() }
    };
    check(&files(&["md"]), |path, text| dangling_links(path, text, &read));
}

#[test]
fn commands_in_documents_are_run_by_a_test_or_by_ci() {
    let sample = "```sh\n# why\nrun this  # like so\nnot this\n```\n```sh tested\nanything\n```\n```bash\n```\n```\n```\n";
    let lines: Vec<usize> = untested_commands(sample, "x; run this; y").iter().map(|c| c.0).collect();
    assert_eq!(lines, [4, 9, 11]);

    let ci: String =
        files(&["rs"]).into_iter().filter(|(path, _)| path.starts_with("xtask")).map(|file| file.1).collect();
    let ci = ci + &std::fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    check(&files(&["md"]), |_, text| untested_commands(text, &ci));
}

/// Lints of the workspace that a package does not obey: it inherits them, or lists them all itself because it differs in one,
/// `unsafe_code`, which it may deny instead of forbid, so that single modules can allow it.
fn missing_lints(manifest: &str, workspace: &toml::Table) -> Vec<Complaint> {
    let manifest: toml::Table = manifest.parse().expect("manifests are TOML");
    let lints = manifest.get("lints").or_else(|| manifest.get("workspace")?.get("lints"));
    let Some(lints) = lints.and_then(toml::Value::as_table) else {
        return vec![(1, "no [lints]".to_owned())];
    };
    if lints.get("workspace").and_then(toml::Value::as_bool) == Some(true) {
        return vec![];
    }
    let mut found = Vec::new();
    for (tool, expected) in workspace {
        for (lint, level) in expected.as_table().expect("a table of lints") {
            let own = lints.get(tool).and_then(|lints| lints.get(lint));
            let unsafe_denied = lint == "unsafe_code" && own.and_then(toml::Value::as_str) == Some("deny");
            if own != Some(level) && !unsafe_denied {
                found.push((1, format!("{tool} lint {lint} is not {level}")));
            }
        }
    }
    found
}

#[test]
fn every_package_obeys_the_lints_of_the_workspace() {
    let workspace = "[rust]\nunsafe_code = \"forbid\"\nmissing_docs = \"warn\"\n".parse().expect("TOML");
    let wrong = |manifest: &str| missing_lints(manifest, &workspace).len();
    assert_eq!(wrong("[package]\nname = \"x\"\n"), 1);
    assert_eq!(wrong("[lints]\nworkspace = true\n"), 0);
    assert_eq!(wrong("[lints.rust]\nunsafe_code = \"deny\"\nmissing_docs = \"warn\"\n"), 0);
    assert_eq!(wrong("[lints.rust]\nunsafe_code = \"allow\"\n"), 2);

    let manifests = files(&["toml"]).into_iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    let manifests: Vec<_> = manifests.collect();
    let of_workspace =
        manifests.iter().find(|(path, _)| path == Path::new("Cargo.toml")).expect("the workspace");
    let of_workspace: toml::Table = of_workspace.1.parse().expect("TOML");
    let lints = of_workspace["workspace"]["lints"].as_table().expect("lints");
    check(&manifests, |_, text| missing_lints(text, lints));
}

/// `cargo xtask mutations` takes too long for each change; that a change has left a mutation behind shows at once.
#[test]
fn mutations_apply_to_what_they_change() {
    let mut patches: Vec<_> =
        files(&["patch"]).into_iter().filter(|(path, _)| path.starts_with("tests/mutations")).collect();
    patches.sort();
    assert!(!patches.is_empty(), "no mutations");
    for (path, _) in patches {
        let applied = std::process::Command::new("git")
            .args(["apply", "--check", "--whitespace=nowarn"])
            .arg(&path)
            .current_dir(root())
            .output()
            .expect("git");
        assert!(applied.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&applied.stderr));
    }
}
