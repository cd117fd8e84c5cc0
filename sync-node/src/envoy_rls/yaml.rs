//! A YAML text as a tree whose every node knows its place, for errors.
//!
//! Scalars stay the text that is written: a value of a descriptor is a text even if it looks like a number. The tree is built from the parser's events in a loop, with a
//! bound on its depth, so that no text is too deep for what reads it.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

/// Levels of a text. A level of descriptors takes two.
const DEPTH_MAX: usize = 64;

/// A place in a text; both figures count from 1, the column in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    fn of(marker: &Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1 }
    }
}

/// A part of a text.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Empty if there is nothing.
    Text(String),
    List(Vec<Node>),
    /// Keys in the order of the text, none of them twice.
    Table(Vec<(Node, Node)>),
}

/// What is wrong with a text as YAML.
#[derive(Debug)]
pub(super) struct Malformed {
    pub(super) place: Place,
    pub(super) message: String,
}

/// Reads the documents of a text.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Malformed> {
    let mut documents = Vec::new();
    // The lists and tables that are not complete yet, the innermost last.
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Malformed {
            place: Place::of(error.marker()),
            message: format!("not valid YAML: {}", error.info()),
        })?;
        let place = Place::of(&span.start);
        let refuse = |message: &str| Err(Malformed { place, message: message.to_owned() });
        let complete = match event {
            // Nothing, which the parser writes so, too.
            Event::Scalar(text, ScalarStyle::Plain, ..) if ["~", "null"].contains(&&*text) => {
                Node { place, content: Content::Text(String::new()) }
            }
            Event::Scalar(text, ..) => Node { place, content: Content::Text(text.into_owned()) },
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() == DEPTH_MAX {
                    return refuse(&format!("more than {DEPTH_MAX} levels; write fewer"));
                }
                let content = match event {
                    Event::SequenceStart(..) => Content::List(Vec::new()),
                    _ => Content::Table(Vec::new()),
                };
                open.push(Open { node: Node { place, content }, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(open) => open.node,
                // The parser does not end what it has not begun.
                None => continue,
            },
            Event::Alias(_) => {
                return refuse("aliases are not supported; write what it stands for");
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => continue,
        };
        match open.last_mut() {
            Some(around) => around.add(complete)?,
            None => documents.push(complete),
        }
    }
    Ok(documents)
}

/// A list or table that is not complete yet.
struct Open {
    node: Node,
    /// The key whose value comes next.
    key: Option<Node>,
}

impl Open {
    fn add(&mut self, node: Node) -> Result<(), Malformed> {
        match &mut self.node.content {
            Content::Text(_) => {}
            Content::List(nodes) => nodes.push(node),
            Content::Table(pairs) => match self.key.take() {
                Some(key) => pairs.push((key, node)),
                None => {
                    let Content::Text(name) = &node.content else {
                        return Err(Malformed {
                            place: node.place,
                            message: "a key must be a text".to_owned(),
                        });
                    };
                    let is_it =
                        |(key, _): &(Node, Node)| matches!(&key.content, Content::Text(key) if key == name);
                    if pairs.iter().any(is_it) {
                        let message = format!("`{name}` stands here twice; remove one of them");
                        return Err(Malformed { place: node.place, message });
                    }
                    self.key = Some(node);
                }
            },
        }
        Ok(())
    }
}
