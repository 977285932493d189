//! A page of the documentation, taken apart: blocks, links, headings, and the code in its sentences.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The top of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One Markdown file.
#[derive(Debug)]
pub struct Page {
    /// Below the top of the repository.
    pub path: String,
    /// All of it.
    pub text: String,
    /// What stands between fences.
    pub blocks: Vec<Block>,
    /// What stands outside of fences and comments, line by line.
    pub prose: String,
}

/// What stands between two fences.
#[derive(Debug)]
pub struct Block {
    /// The page and the line of its first fence.
    pub place: String,
    /// The first word behind the fence.
    pub language: String,
    /// The other words.
    pub info: String,
    /// The lines, each with its end.
    pub text: String,
}

impl Page {
    /// Reads one file.
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut page = Self { path: path.to_owned(), text, blocks: vec![], prose: String::new() };
        let mut open: Option<Block> = None;
        let mut indent = 0;
        for (number, line) in (1..).zip(page.text.lines()) {
            let fence = line.trim_start().strip_prefix("```");
            match (open.take(), fence) {
                (None, Some(info)) => {
                    indent = line.len() - line.trim_start().len();
                    let (language, info) = info.trim().split_once(' ').unwrap_or((info.trim(), ""));
                    open = Some(Block {
                        place: format!("{path}:{number}"),
                        language: language.to_owned(),
                        info: info.trim().to_owned(),
                        text: String::new(),
                    });
                }
                (Some(block), Some(_)) => page.blocks.push(block),
                (Some(mut block), None) => {
                    // In a list it stands further in.
                    block.text.push_str(line.get(indent..).unwrap_or_default());
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {
                    page.prose.push_str(line);
                    page.prose.push('\n');
                }
            }
        }
        assert!(open.is_none(), "{path}: a fence is not closed");
        page.prose = regex(r"(?s)<!--.*?-->").replace_all(&page.prose, "").into_owned();
        page
    }

    /// The pages for users: the README and everything in `docs/`.
    pub fn all() -> Vec<Self> {
        let mut paths = vec!["README.md".to_owned()];
        for file in files("docs") {
            if file.ends_with(".md") {
                paths.push(file);
            }
        }
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Where its links and pictures lead, except to other sites.
    pub fn links(&self) -> Vec<String> {
        // What looks like a link in code is none.
        let text = regex(r"`[^`]*`").replace_all(&self.prose, "");
        let links = regex(r#"\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)""#);
        let targets = links.captures_iter(&text).filter_map(|it| it.get(1).or(it.get(2)));
        targets
            .map(|target| target.as_str().to_owned())
            .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
            .collect()
    }

    /// The names by which its headings are linked to.
    pub fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose.lines().filter(|line| line.starts_with('#'));
        headings.map(|line| slug(line.trim_start_matches('#').trim())).collect()
    }

    /// The code in its sentences and tables, without line breaks.
    pub fn code(&self) -> Vec<String> {
        let spans = regex(r"`([^`]+)`");
        let texts = spans.captures_iter(&self.prose).map(|span| span[1].replace('\n', " "));
        texts.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    /// The blocks of one language.
    pub fn of(&self, language: &str) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.language == language)
    }
}

/// The name that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The files in a folder and below, as paths from the top of the repository, sorted.
pub fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = folder.join(entry.file_name());
            if path.ends_with("node_modules") {
                continue;
            }
            if entry.file_type().expect("a type").is_dir() {
                folders.push(path);
            } else {
                found.push(path.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A pattern that is right.
pub fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect(pattern)
}
