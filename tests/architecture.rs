//! The shape of the sources: which layer imports which, where the outside is touched, and what must not be left lying about.
//!
//! The layers stand in DESIGN.md, in the table of its section "The code": each row has a height, and imports rows of lower
//! heights only. A source is read as a list of words, without comments and without its unit tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A file below `src`, by its path from there.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The lines of the code, without comments.
    fn lines(&self) -> impl Iterator<Item = &str> {
        let text = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        text.lines().map(code)
    }

    /// The words of the code: names, `::` and single signs.
    fn words(&self) -> Vec<&str> {
        self.lines().flat_map(words).collect()
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    fn is_tool(&self) -> bool {
        self.path.starts_with("cli/")
    }

    /// The module that it is, as names from the root.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').filter(|name| !["lib", "main", "mod"].contains(name)).collect()
    }
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
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

/// All sources below a folder of the repository.
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

/// Names from the root of the crate.
type Names = Vec<String>;

/// What a source names by a path from the root of the crate or from a module above: the whole paths, from the root.
fn imports(source: &Source) -> BTreeSet<Names> {
    let words = source.words();
    let mut found = BTreeSet::new();
    for at in 0..words.len() {
        let begins = ["crate", "super"].contains(&words[at]) && words.get(at + 1) == Some(&"::");
        if !begins || at > 0 && words[at - 1] == "::" {
            continue;
        }
        let mut above: Names = source.module().iter().map(|name| (*name).to_owned()).collect();
        match words[at] {
            "crate" => above.clear(),
            _ => drop(above.pop()),
        }
        assert_ne!(words.get(at + 2), Some(&"super"), "{}: a path that climbs twice", source.path);
        paths(&words[at + 2..], &above, &mut found);
    }
    found
}

/// Adds the paths that begin with `words`, a group in braces one by one, and returns how many words that were.
fn paths(words: &[&str], above: &Names, found: &mut BTreeSet<Names>) -> usize {
    let mut path = above.clone();
    let mut at = 0;
    loop {
        match words.get(at) {
            Some(&"{") => {
                at += 1;
                while words.get(at).is_some_and(|word| *word != "}") {
                    at += if words[at] == "," { 1 } else { paths(&words[at..], &path, found) };
                }
                return at + 1;
            }
            Some(name) => path.push((*name).to_owned()),
            None => {}
        }
        at += 1;
        if words.get(at) != Some(&"::") {
            found.insert(path);
            return at;
        }
        at += 1;
    }
}

/// Which module below `folder` what its head takes from there comes from.
fn exports(sources: &[Source], folder: &[&str]) -> BTreeMap<String, String> {
    let heads = sources.iter().filter(|source| source.module() == folder);
    let mut exports = BTreeMap::new();
    for words in heads.map(Source::words) {
        for at in 0..words.len() {
            if words[at] != "use" || words.get(at + 2) != Some(&"::") {
                continue;
            }
            let mut taken = BTreeSet::new();
            paths(&words[at + 1..], &Vec::new(), &mut taken);
            exports
                .extend(taken.into_iter().filter_map(|path| Some((path.last()?.clone(), path[0].clone()))));
        }
    }
    exports
}

/// Which module imports which.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The modules directly below a folder, and their imports of each other. What a folder's files import, the folder imports.
fn graph(sources: &[Source], folder: &[&str]) -> Graph {
    let exports = exports(sources, folder);
    let inside =
        |source: &&Source| source.module().len() > folder.len() && source.module().starts_with(folder);
    let mut graph = Graph::new();
    for source in sources.iter().filter(inside) {
        graph.entry(source.module()[folder.len()].to_owned()).or_default();
    }
    for source in sources.iter().filter(inside) {
        let module = source.module()[folder.len()];
        for path in imports(source) {
            if path.len() <= folder.len() || !path.iter().zip(folder).all(|(name, other)| name == other) {
                continue;
            }
            let name = &path[folder.len()];
            let to = if graph.contains_key(name) { Some(name) } else { exports.get(name) };
            if let Some(to) = to.filter(|to| *to != module && graph.contains_key(*to)) {
                graph.entry(module.to_owned()).or_default().insert(to.clone());
            }
        }
    }
    graph
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

/// A row of the table of layers.
#[derive(Debug)]
struct Layer {
    height: u32,
    name: String,
    /// Folders and files, from the root of the repository.
    places: Vec<String>,
}

/// Reads the table of the section "The code".
fn layers(design: &str) -> Vec<Layer> {
    let section = design.lines().skip_while(|line| !(line.starts_with("## ") && line.ends_with("The code")));
    let section = section.skip(1).take_while(|line| !line.starts_with("## "));
    let mut rows = section.filter(|line| line.starts_with('|'));
    let head = rows.next().expect("a table of layers");
    assert!(head.starts_with("| layer | folders and files |"), "{head}");
    rows.skip(1).map(layer).collect()
}

fn layer(row: &str) -> Layer {
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    let (height, name) = cells[1].split_once(' ').expect("a height and a name");
    let quoted = cells[2].split('`').skip(1).step_by(2);
    Layer { height: height.parse().unwrap(), name: name.into(), places: quoted.map(str::to_owned).collect() }
}

fn design() -> Vec<Layer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("DESIGN.md");
    layers(&fs::read_to_string(path).unwrap())
}

/// The layer of a module, by its first name. The root of the crate has none.
fn layer_of<'a>(layers: &'a [Layer], module: &str) -> Option<&'a Layer> {
    let (folder, file) = (format!("src/{module}"), format!("src/{module}.rs"));
    layers.iter().find(|layer| layer.places.iter().any(|place| *place == folder || *place == file))
}

/// What the layers forbid.
fn upward(layers: &[Layer], sources: &[Source]) -> Vec<String> {
    let exports = exports(sources, &[]);
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !source.module().is_empty()) {
        let Some(layer) = layer_of(layers, source.module()[0]) else {
            found.push(format!("{} is in no layer", source.path));
            continue;
        };
        for path in imports(source) {
            let name = exports.get(&path[0]).unwrap_or(&path[0]);
            match layer_of(layers, name) {
                Some(to) if to.name == layer.name || to.height < layer.height => {}
                Some(to) => {
                    found.push(format!("{} of {} imports {name} of {}", source.path, layer.name, to.name))
                }
                None => found.push(format!("{} imports {name}, which is in no layer", source.path)),
            }
        }
    }
    found
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.into(), text: text.into() }
}

const TABLE: &str = "## 1. The idea\n| no | table |\n## 2. The code\nText.\n\n\
    | layer | folders and files | what |\n|---|---|---|\n| 1 low | `src/low`, `src/flat.rs` | `src/not` |\n\
    | 2 left | `src/left` | |\n| 2 right | `src/right` | |\n## 3. More\n| 3 up | `src/up` | |\n";

#[test]
fn imports_are_found_in_all_their_forms() {
    let text = "//! crate::not\nuse crate::b::{self, c::D, e::{F, g}};\nuse super::h;\nfn f() -> crate::Thing { super::I::j() }\n\
        // crate::nor\n#[cfg(test)]\nmod tests {\n    use crate::a;\n}\n";
    let found: Vec<_> = imports(&source("x/y.rs", text)).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["Thing", "b::c::D", "b::e::F", "b::e::g", "b::self", "x::I::j", "x::h"]);
    let found: Vec<_> = imports(&source("x/mod.rs", "use super::y::Z;")).into_iter().collect();
    assert_eq!(found, [["y", "Z"]]);
}

#[test]
fn cycles_are_found_in_a_folder() {
    let sources = [
        source("x/mod.rs", "mod a;\nmod b;\npub use b::deep::{Thing, Other};\n"),
        source("x/a.rs", "use super::Thing;\nuse crate::x::c;"),
        source("x/b/mod.rs", "mod inner;\n"),
        source("x/b/inner.rs", "use crate::x::a::A;\nuse super::own;"),
        source("x/c.rs", "use crate::y::a;"),
    ];
    let graph = graph(&sources, &["x"]);
    assert_eq!(graph["a"], ["b".to_owned(), "c".to_owned()].into());
    assert_eq!(cycles(&graph), [["a", "b"]]);
}

#[test]
fn an_upward_import_is_found() {
    let layers = layers(TABLE);
    assert_eq!(layers.iter().map(|layer| layer.height).collect::<Vec<_>>(), [1, 2, 2]);
    let found = |path: &str, text: &str| {
        let root = source("lib.rs", "pub use left::a::Name;");
        upward(&layers, &[root, source(path, text)])
    };
    assert_eq!(found("right/a.rs", "use crate::low::X;\nuse crate::flat;\nuse super::b;"), [""; 0]);
    assert_eq!(found("low/a.rs", "use crate::left::X;"), ["low/a.rs of low imports left of left"]);
    assert_eq!(found("flat.rs", "fn f() -> crate::Name {}"), ["flat.rs of low imports left of left"]);
    assert_eq!(
        found("right/a/b.rs", "use crate::{low, left::X};"),
        ["right/a/b.rs of right imports left of left"]
    );
    assert_eq!(found("left/a.rs", "use crate::up::X;"), ["left/a.rs imports up, which is in no layer"]);
    assert_eq!(found("up/a.rs", ""), ["up/a.rs is in no layer"]);
}

#[test]
fn layers_import_downward_only() {
    let layers = design();
    let places: Vec<_> = layers.iter().flat_map(|layer| &layer.places).collect();
    let there = |place: &&String| Path::new(env!("CARGO_MANIFEST_DIR")).join(place.as_str()).exists();
    assert!(places.iter().all(there), "{places:?}");
    assert!(layers.is_sorted_by_key(|layer| layer.height), "from the bottom up");
    let height = |name: &str| layers.iter().find(|layer| layer.name == name).unwrap().height;
    assert_eq!(height("upkeep"), height("read"), "neither may import the other");
    let library = library();
    assert!(library.iter().any(|source| imports(source).len() > 10), "the imports were not read");
    assert_eq!(upward(&layers, &library), [""; 0]);
}

#[test]
fn modules_of_a_folder_do_not_import_each_other_in_a_circle() {
    let (library, mut tool) = (library(), sources("src/cli"));
    tool.retain(|source| !source.is_test());
    let heads = library.iter().filter(|source| source.path.ends_with("/mod.rs"));
    let folders: Vec<_> = heads.map(Source::module).collect();
    assert!(folders.len() > 10, "{folders:?}");
    let circles = |folder: &Vec<&str>| {
        let graph = graph(&library, folder);
        cycles(&graph).into_iter().map(|group| (folder.join("/"), group.join(" "))).collect::<Vec<_>>()
    };
    let found: Vec<_> = folders.iter().flat_map(circles).collect();
    assert_eq!(found, [], "modules of a folder that import each other");
    let graph = graph(&tool, &[]);
    assert!(graph["import"].contains("lines"), "the imports were not read: {graph:?}");
    assert_eq!(cycles(&graph), Vec::<Vec<&str>>::new(), "modules of the tool that import each other");
}

#[test]
fn files_of_messages_and_of_rows_know_nothing_of_each_other_and_neither_knows_the_log() {
    let graph = graph(&library(), &["files"]);
    for (one, others) in [("segment", ["table", "log"]), ("table", ["segment", "log"])] {
        for other in others {
            assert!(!reachable(&graph, one).contains(other), "{one} knows {other}");
        }
    }
}

/// The types that a file defines for itself or others, those within functions and macros apart.
fn types(source: &Source) -> Vec<&str> {
    let mut types = Vec::new();
    for line in source.lines().filter(|line| !line.starts_with(' ')) {
        let words = words(line);
        let keyword = words.iter().position(|word| ["struct", "enum", "trait"].contains(word));
        types.extend(keyword.and_then(|at| words.get(at + 1)));
    }
    types
}

#[test]
fn no_two_types_have_one_name() {
    let mut library = library();
    library.retain(|source| !source.path.starts_with("fuzzing/"));
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for source in &library {
        types(source).into_iter().for_each(|name| places.entry(name).or_default().push(&source.path));
    }
    assert!(places.len() > 100, "the types were not read");
    places.retain(|_, files| files.len() > 1);
    assert_eq!(places, BTreeMap::new());
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

/// What a scheduler of tests can't see stops it, so that nothing waits but by what `env/sync.rs` gives.
#[test]
fn locks_and_threads_come_from_one_place() {
    let allowed = ["env/sync.rs", "env/sync_shuttle.rs"];
    let locks = ["Mutex", "RwLock", "Condvar", "Barrier", "atomic", "mpsc"];
    let threads = ["spawn", "sleep", "yield_now", "park", "Builder"];
    let mut library = library();
    library.retain(|source| !source.path.starts_with("fuzzing/") && !allowed.contains(&&*source.path));
    for source in library {
        let words = source.words();
        for at in 0..words.len() {
            let named: Vec<&str> = match &words[at..] {
                ["parking_lot" | "crossbeam_channel" | "shuttle", "::", ..] => vec![words[at]],
                ["std", "::", "sync" | "thread", "::", "{", group @ ..] => {
                    group.iter().copied().take_while(|word| *word != "}").collect()
                }
                ["std", "::", "sync" | "thread", "::", name, ..] => vec![name],
                _ => Vec::new(),
            };
            let outside = ["parking_lot", "crossbeam_channel", "shuttle"];
            let known = |word: &&&str| [&locks[..], &threads, &outside].concat().contains(*word);
            assert_eq!(named.iter().find(known), None, "{}", source.path);
        }
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

#[test]
fn unsafe_code_is_counted_and_says_why_it_is_sound() {
    let sources = sources("src");
    let map = sources.iter().find(|source| source.path == "env/map.rs").unwrap();
    let lines: Vec<_> = map.text.lines().collect();
    let places = (0..lines.len()).filter(|at| words(code(lines[*at])).contains(&"unsafe"));
    let mut count = 0;
    for at in places {
        let above = lines[..at].iter().rev().take_while(|line| line.trim().starts_with("// "));
        assert!(above.into_iter().any(|line| line.contains("SAFETY: ")), "line {}: no word on why", at + 1);
        count += 1;
    }
    assert_eq!(count, 1, "places with unsafe code: a further one needs a reason in the commit's message");
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""), "it is denied anywhere else");
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

#[test]
fn every_call_of_a_store_and_of_a_batch_has_its_cost_in_the_design() {
    let design = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("DESIGN.md")).unwrap();
    let (_, costs) = design.split_once("## 18. What each call costs").unwrap();
    let told: BTreeSet<&str> = costs.split('`').skip(1).step_by(2).flat_map(words).collect();
    let mut count = 0;
    for source in sources("src") {
        let of_store = ["store/mod.rs", "store/apply.rs", "store/erasures.rs"].contains(&&*source.path);
        let words = source.words();
        for call in words.windows(5).filter(|call| call[..2] == ["pub", "fn"] && call[3] == "(") {
            let receiver = &words[words.iter().position(|word| word.as_ptr() == call[4].as_ptr()).unwrap()..];
            let of_batch = source.path.starts_with("model/ops/") && receiver[..3] == ["&", "mut", "self"];
            if of_batch || of_store && receiver[..2] == ["&", "self"] {
                assert!(told.contains(call[2]), "{}: {}", source.path, call[2]);
                count += 1;
            }
        }
    }
    assert!(count > 80, "{count} calls");
}
