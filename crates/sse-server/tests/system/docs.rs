//! The pages of documentation: every relative link leads to a file that exists, and to one of its
//! headings.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use crate::process::workspace;

/// Returns all pages that users and maintainers read.
fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(root).expect("the root of the repository") {
        let path = entry.expect("an entry of the root").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    add_pages(&root.join("docs"), &mut pages);
    add_pages(&root.join("examples"), &mut pages);
    pages
}

fn add_pages(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of pages") {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() {
            add_pages(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// Returns the text of a page without its code: neither links nor headings there count.
fn prose(page: &Path) -> String {
    let text =
        fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let mut in_block = false;
    let mut prose = String::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        if !is_fence && !in_block {
            prose.push_str(line);
            prose.push('\n');
        }
        in_block ^= is_fence;
    }
    prose
}

/// Returns the text outside of `code`.
fn without_inline_code(prose: &str) -> String {
    prose.split('`').step_by(2).collect()
}

/// Returns the targets of `[text](target)` and `[name]: target`.
fn links(prose: &str) -> Vec<String> {
    let text = without_inline_code(prose);
    let inline = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target);
    let named = text
        .lines()
        .filter(|line| line.starts_with('['))
        .filter_map(|line| line.split_once("]: "))
        .map(|(_, target)| target);
    inline
        .chain(named)
        .map(|target| target.trim().to_owned())
        .collect()
}

/// Returns the anchors of a page's headings, as GitHub makes them: lower case, without punctuation,
/// a hyphen per space, and a number if the heading is repeated.
fn anchors(page: &Path) -> HashSet<String> {
    let mut anchors = HashSet::new();
    for line in prose(page).lines().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let anchor: String = heading
            .chars()
            .filter(|char| char.is_alphanumeric() || [' ', '-', '_'].contains(char))
            .map(|char| if char == ' ' { '-' } else { char })
            .collect();
        let mut unique = anchor.clone();
        for number in 1.. {
            if anchors.insert(unique) {
                break;
            }
            unique = format!("{anchor}-{number}");
        }
    }
    anchors
}

/// Returns a message if the link is relative and its target does not exist.
fn check_link(page: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() {
        page.to_owned()
    } else {
        page.parent().expect("a page is in a folder").join(file)
    };
    if !target.exists() {
        return Some(format!("{}: no file for {link}", page.display()));
    }
    let has_anchor = anchor.is_empty() || anchors(&target).contains(anchor);
    (!has_anchor).then(|| format!("{}: no heading for {link}", page.display()))
}

/// Returns the relative links of `pages` that lead nowhere, and the number of links.
fn broken_links(pages: &[PathBuf]) -> (Vec<String>, usize) {
    let links: Vec<_> = pages
        .iter()
        .flat_map(|page| {
            links(&prose(page))
                .into_iter()
                .map(move |link| (page, link))
        })
        .collect();
    let broken = links
        .iter()
        .filter_map(|(page, link)| check_link(page, link))
        .collect();
    (broken, links.len())
}

#[test]
fn every_relative_link_of_the_documentation_resolves() {
    let pages = pages(&workspace());
    assert!(pages.len() > 20, "only {} pages were found", pages.len());
    let (broken, links) = broken_links(&pages);
    assert!(links > 50, "only {links} links were found");
    assert_eq!(broken, Vec::<String>::new());
}

/// Returns the sources under `folder`, without those of tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of the folder").path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let is_test = name.is_none_or(|name| name == "tests" || name.starts_with("test_"));
        if path.is_dir() && !is_test {
            sources(&path, found);
        } else if path.is_file() && !is_test {
            found.push(path);
        }
    }
}

/// Returns the names in the page's code. `staged_{log,order}` stands for two of them.
fn names_in_code(page: &str) -> HashSet<String> {
    let mut names = HashSet::new();
    for code in page.split('`').skip(1).step_by(2) {
        let is_separator = |char: char| !(char.is_alphanumeric() || char == '_');
        names.extend(code.split(is_separator).map(ToOwned::to_owned));
        if let Some((prefix, rest)) = code.split_once('{') {
            let list = rest.split('}').next().unwrap_or_default();
            names.extend(list.split(',').map(|name| format!("{prefix}{name}")));
        }
    }
    names
}

#[test]
fn the_map_of_the_architecture_names_every_file_of_the_server() {
    let root = workspace();
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the page");
    let named = names_in_code(&page);
    let mut found = Vec::new();
    sources(&root.join("crates/sse-server/src"), &mut found);
    assert!(found.len() > 100, "only {} sources were found", found.len());
    found.retain(|path| {
        let name = path.file_stem().expect("a name").to_string_lossy();
        !["mod", "lib", "main"].contains(&&*name) && !named.contains(&*name)
    });
    assert_eq!(found, Vec::<PathBuf>::new(), "not on the map");
}

#[test]
fn a_link_to_a_missing_file_or_heading_is_found() {
    let directory = tempfile::TempDir::new().unwrap();
    let page = directory.path().join("page.md");
    let text = "\
# Where it `starts`, and ends

[good](other.md), [good](#where-it-starts-and-ends), [good](other.md#twice-1),
[good](https://example.com/#nothing), `[code](nothing.md)`, [no
file](missing.md) and [no heading](other.md#missing)

```text
# Not a heading
[not a link](missing.md)
```

[no heading](#not-a-heading)

[named]: missing/page.md
";
    fs::write(&page, text).unwrap();
    fs::write(directory.path().join("other.md"), "# Twice\n\n# Twice\n").unwrap();
    let (broken, _) = broken_links(std::slice::from_ref(&page));
    let prefix = page.display();
    assert_eq!(
        broken,
        [
            format!("{prefix}: no file for missing.md"),
            format!("{prefix}: no heading for other.md#missing"),
            format!("{prefix}: no heading for #not-a-heading"),
            format!("{prefix}: no file for missing/page.md"),
        ]
    );
}
