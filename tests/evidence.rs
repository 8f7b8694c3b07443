//! The list of deliberate faults, `tests/deliberate.md`, names all that stand in the sources, where they stand, and tests that
//! there are. `.ci/deliberate` shows that each is caught. `tests/README.md` names a test, or a limit, for each thing that can go wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A line of the list.
struct Row {
    number: u32,
    file: String,
    target: String,
    test: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn list() -> Vec<Row> {
    let text = fs::read_to_string(root().join("tests/deliberate.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| number"));
    rows.map(row).collect()
}

fn row(line: &str) -> Row {
    let cells: Vec<_> =
        line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect();
    let [number, file, _what, caught] = cells[..] else { panic!("four cells: {line}") };
    let (target, test) = caught.split_once(' ').expect("a test target and a test");
    Row { number: number.parse().unwrap(), file: file.into(), target: target.into(), test: test.into() }
}

/// The numbers of the faults in a source.
fn marks(text: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for name in ["fault(", "unless(", "skip("] {
        for part in text.split(name).skip(1) {
            let digits = part.chars().take_while(char::is_ascii_digit).collect::<String>();
            let ends = part[digits.len()..].starts_with(if name == "fault(" { ")" } else { "," });
            found.extend(digits.parse::<u32>().ok().filter(|_| ends));
        }
    }
    found
}

/// Which faults stand in which source.
fn marked() -> BTreeMap<u32, BTreeSet<String>> {
    let (mut found, mut folders) = (BTreeMap::<u32, BTreeSet<String>>::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        let paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            marks(&text)
                .into_iter()
                .for_each(|number| _ = found.entry(number).or_default().insert(name.clone()));
        }
    }
    found
}

#[test]
fn the_list_names_each_fault_and_where_it_stands() {
    let marked = marked();
    let listed: Vec<u32> = list().iter().map(|row| row.number).collect();
    assert!(listed.is_sorted_by(|a, b| a < b), "each once, in order");
    assert_eq!(
        listed,
        marked.keys().copied().collect::<Vec<_>>(),
        "the list, and what stands in the sources"
    );
    assert!(listed.len() >= 60, "{} deliberate faults", listed.len());
    for row in list() {
        assert!(marked[&row.number].contains(&row.file), "{} is in {:?}", row.number, marked[&row.number]);
    }
}

#[test]
fn each_fault_is_caught_by_a_test_that_there_is() {
    for row in list() {
        let name = row.test.rsplit("::").next().unwrap();
        let module = row.test.trim_end_matches(name).trim_end_matches("tests::").trim_end_matches("::");
        let place = match &*row.target {
            "lib" => format!("src/{}", module.replace("::", "/")),
            target => format!("tests/{target}.rs"),
        };
        let files = [place.clone(), format!("{place}.rs"), format!("{place}/tests.rs")];
        let texts = files.iter().filter_map(|file| fs::read_to_string(root().join(file)).ok());
        let there = texts.into_iter().any(|text| text.contains(&format!("fn {name}(")));
        assert!(there, "{}: {} has no test {}", row.number, row.target, row.test);
    }
}

/// Whether a test file has a test of that name, or a fuzz target.
fn has(file: &str, test: &str) -> bool {
    let text = fs::read_to_string(root().join(format!("tests/{file}.rs"))).unwrap_or_default();
    let name = test.rsplit("::").next().unwrap();
    text.contains(&format!("fn {name}(")) || file == "fuzz" && text.contains(&format!("    {name}: "))
}

#[test]
fn each_thing_that_can_go_wrong_has_a_test_or_a_limit() {
    let text = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let mut numbers = Vec::new();
    for row in rows {
        let quoted: Vec<_> = row.split('`').skip(1).step_by(2).filter(|word| word.contains("::")).collect();
        assert!(!quoted.is_empty() || row.contains("imit*"), "neither a test nor a limit: {row}");
        for test in quoted {
            let (file, name) = test.split_once("::").unwrap();
            assert!(has(file, name), "there is no test {test}");
        }
        numbers.extend(row.split('|').nth(1).and_then(|number| number.trim().parse::<u32>().ok()));
    }
    assert_eq!(numbers, (1..=38).collect::<Vec<_>>());
}
