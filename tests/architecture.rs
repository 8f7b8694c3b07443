//! The shape of the sources: who imports whom, where the outside is touched, and what must not be left lying about.
//!
//! A source is read as a list of words, without comments and without its unit tests. A module is a file or a folder
//! directly below the root; what a folder's files import, the folder imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A file below `src`, by its path from there.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The words of the code: names, `::` and single signs.
    fn words(&self) -> Vec<&str> {
        let text = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        text.lines().flat_map(|line| words(line.split("//").next().unwrap_or_default())).collect()
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
    }

    fn is_tool(&self) -> bool {
        self.path.starts_with("cli/")
    }
}

fn words(mut text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    while let Some(first) = text.chars().next() {
        let name = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let len = match name {
            0 if text.starts_with("::") => 2,
            0 => first.len_utf8(),
            name => name,
        };
        if !first.is_whitespace() {
            words.push(&text[..len]);
        }
        text = &text[len..];
    }
    words
}

/// All files below a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut sources, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!sources.is_empty(), "{folder} holds no source");
    sources
}

/// The sources of the library, without tests.
fn library() -> Vec<Source> {
    let mut sources = sources("src");
    sources.retain(|source| !source.is_tool() && !source.is_test());
    sources
}

/// Which module imports which.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn graph(sources: &[Source], root: &str) -> Graph {
    let exports = sources.iter().find(|source| source.path == root).map(exports).unwrap_or_default();
    let mut graph = Graph::new();
    for source in sources.iter().filter(|source| source.path != root) {
        let module = source.path.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        for name in imports(source) {
            let to = exports.get(&name).unwrap_or(&name).clone();
            if to != module {
                graph.entry(module.clone()).or_default().insert(to);
            }
        }
        graph.entry(module).or_default();
    }
    graph
}

/// What a file names below `crate::`, or, next to the root, below `super::`.
fn imports(source: &Source) -> BTreeSet<String> {
    let words = source.words();
    let below_root = !source.path.contains('/') || source.path.matches('/').count() == 1 && is_head(source);
    let mut found = BTreeSet::new();
    for at in 0..words.len() {
        let root = words[at] == "crate" || words[at] == "super" && below_root;
        if root && words.get(at + 1) == Some(&"::") && words.get(at.wrapping_sub(1)) != Some(&"::") {
            found.extend(names(&words[at + 2..]));
        }
        let above = words[at..].starts_with(&["super", "::", "super"]);
        assert!(!above, "{}: a path that climbs twice hides where it leads", source.path);
    }
    found
}

fn is_head(source: &Source) -> bool {
    source.path.ends_with("/mod.rs")
}

/// The first names of a path, or of a group of paths in braces.
fn names(words: &[&str]) -> Vec<String> {
    if words.first() != Some(&"{") {
        return words.first().map(|name| (*name).to_owned()).into_iter().collect();
    }
    let (mut names, mut depth) = (Vec::new(), 0);
    for (word, next) in words.iter().zip(&words[1..]) {
        match *word {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        match depth {
            0 => break,
            1 if *word == "{" || *word == "," => names.push((*next).to_owned()),
            _ => {}
        }
    }
    names
}

/// Which module what the root exports comes from.
fn exports(root: &Source) -> BTreeMap<String, String> {
    let words = root.words();
    let mut exports = BTreeMap::new();
    for at in 0..words.len() {
        if let ["pub", "use", module, "::", rest @ ..] = &words[at..] {
            exports.extend(names(rest).into_iter().map(|name| (name, (*module).to_owned())));
        }
    }
    exports
}

/// The groups of modules that import each other, directly or not.
fn cycles(graph: &Graph) -> Vec<Vec<&str>> {
    let mut groups = BTreeSet::new();
    for module in graph.keys() {
        let ahead = reachable(graph, module);
        if ahead.contains(&**module) {
            let group = ahead.into_iter().filter(|other| reachable(graph, other).contains(&**module));
            groups.insert(group.collect::<Vec<_>>());
        }
    }
    groups.into_iter().collect()
}

fn reachable<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let (mut found, mut todo) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = todo.pop() {
        for next in graph.get(&module).into_iter().flatten() {
            if found.insert(&**next) {
                todo.push(next.clone());
            }
        }
    }
    found
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

#[test]
fn imports_are_found_in_all_their_forms() {
    let root = source("lib.rs", "mod a;\npub use deep::{Thing, Other};\npub use flat::Name;\n");
    let a = "//! crate::not\nuse crate::b::{self, c::D};\nfn f() -> crate::Thing { super::e::g() }\n// crate::nor";
    let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n";
    let sources = [
        root,
        source("a.rs", a),
        source("b/mod.rs", "mod x;\nuse super::f;\nuse self::x::Y;"),
        source("b/x.rs", "use super::Z;\nuse crate::{g::{h, i}, Name, a};"),
        source("t.rs", tests),
    ];
    let graph = graph(&sources, "lib.rs");
    let of = |module: &str| graph[module].iter().map(|name| &**name).collect::<Vec<_>>();
    assert_eq!(of("a"), ["b", "deep", "e"]);
    assert_eq!(of("b"), ["a", "f", "flat", "g"]);
    assert_eq!(of("t"), [""; 0]);
    assert_eq!(cycles(&graph), [["a", "b"]]);
}

#[test]
fn modules_import_downward_without_cycles() {
    let library = graph(&library(), "lib.rs");
    assert!(
        library.len() > 25 && library["store"].contains("engine"),
        "the imports were not read: {library:?}"
    );
    assert_eq!(cycles(&library), Vec::<Vec<&str>>::new(), "modules that import each other");

    let mut tool = sources("src/cli");
    tool.retain(|source| !source.is_test());
    let tool = graph(&tool, "main.rs");
    assert!(tool["import"].contains("lines"), "the imports were not read: {tool:?}");
    assert_eq!(cycles(&tool), Vec::<Vec<&str>>::new(), "modules of the tool that import each other");
}

#[test]
fn every_import_leads_to_a_module() {
    let graph = graph(&library(), "lib.rs");
    for (module, imports) in &graph {
        for import in imports {
            assert!(graph.contains_key(import), "{module} imports {import}, which is no module");
        }
    }
}

#[test]
fn what_lies_below_knows_nothing_of_what_lies_above() {
    let graph = graph(&library(), "lib.rs");
    for bottom in ["error", "types", "codec"] {
        assert_eq!(graph[bottom], BTreeSet::new(), "{bottom} stands on nothing");
    }
    assert!(graph["env"].iter().all(|import| import == "error"), "env stands on nothing: {:?}", graph["env"]);
    let low = [
        "log", "sealed", "segment", "table", "env", "codec", "record", "change", "heads", "memtable",
        "manifest", "state", "fetch", "rows", "stage", "sync", "commit",
    ];
    let high = ["engine", "store", "history", "conversation", "listing", "maintenance", "recovery", "verify"];
    for module in low {
        let above: Vec<_> = reachable(&graph, module).into_iter().filter(|m| high.contains(m)).collect();
        assert_eq!(above, [""; 0], "{module} reaches up");
    }
    // Files of messages and files of rows know nothing of each other, and neither knows the log.
    for (one, others) in [("segment", ["table", "log"]), ("table", ["segment", "log"])] {
        for other in others {
            assert!(!reachable(&graph, one).contains(other), "{one} knows {other}");
        }
    }
}

#[test]
fn the_outside_is_touched_in_one_place() {
    let allowed = ["env/os.rs", "env/map.rs"];
    for source in library() {
        let words = source.words();
        let outside = ["SystemTime", "OpenOptions", "memmap2", "rustix", "getrandom"];
        let named = words.iter().find(|word| outside.contains(word));
        let standard = |word: &[&str]| matches!(word, ["std", "::", "fs" | "net" | "process" | "env"]);
        let direct = words.windows(3).find(|path| standard(path)).map(|path| path[2]);
        let group = words.windows(3).find(|path| *path == ["std", "::", "{"]).map(|path| path[2]);
        let found = named.copied().or(direct).or(group);
        assert!(allowed.contains(&&*source.path) || found.is_none(), "{}: {found:?}", source.path);
    }
}

#[test]
fn unsafe_code_is_in_one_file() {
    let unsafe_in: Vec<_> = sources("src")
        .into_iter()
        .filter(|source| source.text.lines().any(|line| words(code(line)).contains(&"unsafe")))
        .map(|source| source.path)
        .collect();
    assert_eq!(unsafe_in, ["env/map.rs"]);
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn every_file_says_what_it_owns_and_stays_short() {
    for source in sources("src").into_iter().chain(sources("tests")) {
        assert!(source.text.starts_with("//! "), "{} does not say what it is", source.path);
    }
    for source in sources("src") {
        let lines = source.text.lines().count();
        assert!(lines <= 700, "{} has {lines} lines", source.path);
    }
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    let undone = ["todo", "unimplemented", "dbg"];
    for source in sources("src").into_iter().chain(sources("tests")) {
        for (number, line) in (1..).zip(source.text.lines()) {
            let words = words(code(line));
            let calls = |pair: &[&str]| undone.contains(&pair[0]) && pair[1] == "!";
            let skips = |three: &[&str]| three == ["#", "[", "ignore"];
            let left = words.windows(2).any(calls) || words.windows(3).any(skips);
            assert!(!left, "{}, line {number}: {line}", source.path);
        }
    }
}
