//! The house rules that a machine can check: layers, purity, bans, sizes, links.
//!
//! A failure names file and line and says what to do instead. The tables are the rules; the
//! reasons are in docs/ARCHITECTURE.md and docs/adr.

#![allow(clippy::unwrap_used)] // a test that cannot go on may stop here
#![allow(clippy::disallowed_methods)] // it reads the tree itself, on the host

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may name, in layer order. `*` is every room.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("rt", &["model"]),
    ("format", &["model"]),
    ("disk", &["model", "rt"]),
    ("net", &["model", "rt", "disk"]),
    ("protocol", &["model"]),
    ("remoting", &["model", "rt", "net", "protocol"]),
    ("store", &["model", "rt", "format", "disk"]),
    ("ha", &["model", "rt", "format", "net", "store"]),
    ("namesrv", &["model", "rt", "disk", "net", "protocol", "remoting"]),
    ("broker", &["model", "rt", "format", "disk", "net", "protocol", "remoting", "store", "ha"]),
    ("client", &["model", "rt", "format", "disk", "net", "protocol", "remoting"]),
    ("doctor", &["model", "rt", "format", "disk", "protocol", "store"]),
    ("config", &["model", "rt", "disk", "remoting", "store", "ha", "namesrv", "broker", "client"]),
    ("cli", &["*"]),
];

/// Where code may wait, and so where clocks and dice may be asked.
const MAY_AWAIT: &[&str] = &["rt/", "disk/", "net/", "remoting/", "cli/", "main.rs"];
const MAY_AWAIT_INSIDE: &[&str] = &["/driver.rs", "/driver/", "/task/", "/handler/"];
const NEVER_AWAIT: &[&str] =
    &["remoting/pending.rs", "remoting/outbox.rs", "remoting/budget.rs", "remoting/limits.rs"];

/// Text that may not stand in a source file, where it may, and what to use instead.
const BANS: &[(&str, &[&str], &str)] = &[
    ("tokio::", &["rt/", "net/tcp.rs", "cli/bench/"], "use crate::rt"),
    ("std::fs::", &["disk/real.rs", "cli/"], "use crate::disk"),
    ("std::net::Tcp", &["net/tcp.rs", "cli/bench/"], "use crate::net"),
    ("Instant::now", &["rt/", "cli/bench/"], "take a crate::rt::time::Clock or a Mono"),
    ("SystemTime::now", &["rt/"], "take a crate::rt::time::Clock or a WallMillis"),
    ("rand::", &["rt/"], "take a crate::rt::rng::Rng"),
    ("cfg(madsim)", &["rt/"], "only rt knows which world it runs in"),
    ("HashMap", &["cli/"], "use BTreeMap: the order of a HashMap differs between runs"),
    ("HashSet", &["cli/"], "use BTreeSet: the order of a HashSet differs between runs"),
    ("thread_local!", &["rt/"], "simulated nodes share thread-locals: pass a value"),
    ("OnceLock", &["rt/", "cli/"], "simulated nodes share statics: pass a value"),
    ("static mut", &[], "pass a value"),
    ("todo!(", &[], "finish it or return an error that says what is missing"),
    ("unimplemented!(", &[], "finish it or return an error that says what is missing"),
    ("dbg!(", &[], "use tracing"),
    ("#[ignore", &[], "assert what happens today, with a note"),
];

/// Files and functions that may be longer than the limit, with the reason. The lists may only
/// shrink.
const LONG_FILES: &[(&str, &str)] = &[];
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

struct Source {
    /// Relative to the package, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The lines before the tests at the end of the file, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
        lines.enumerate().map(|(at, line)| (at + 1, line))
    }
    fn inside_src(&self) -> &str {
        self.path.trim_start_matches("src/")
    }
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut entries: Vec<_> = entries.flatten().map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != ".git" {
            walk(&path, out);
        } else if path.is_file() {
            out.push(path);
        }
    }
}

fn files(under: &str, extension: &str) -> Vec<Source> {
    let root = package();
    let mut paths = Vec::new();
    walk(&root.join(under), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|e| e == extension));
    let relative = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
    paths
        .iter()
        .map(|path| Source { path: relative(path), text: fs::read_to_string(path).unwrap() })
        .map(|source| Source { path: source.path.replace("./", ""), ..source })
        .collect()
}

fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn every_room_stands_in_the_table_of_layers() {
    let mut found = Vec::new();
    for entry in fs::read_dir(package().join("src")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() && !LAYERS.iter().any(|(room, _)| *room == name) {
            found.push(format!("src/{name}: add a row to LAYERS and to docs/ARCHITECTURE.md"));
        }
    }
    report("rooms without a row", &found);
}

#[test]
fn layers_point_down() {
    let mut found = Vec::new();
    for source in files("src", "rs") {
        let Some((room, _)) = source.inside_src().split_once('/') else { continue };
        let Some((_, may)) = LAYERS.iter().find(|(name, _)| *name == room) else { continue };
        for (line, text) in source.code() {
            for rest in without_comment(text).split("crate::").skip(1) {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let named = &rest[..end.unwrap_or(rest.len())];
                let is_room = LAYERS.iter().any(|(name, _)| *name == named);
                if is_room && named != room && !may.contains(&named) && *may != ["*"] {
                    found.push(format!("{}:{line}: {room} may not name {named}", source.path));
                }
            }
        }
    }
    report("a room names one that it may not", &found);
}

#[test]
fn machines_do_not_wait() {
    let mut found = Vec::new();
    for source in files("src", "rs") {
        let inside = source.inside_src();
        let may = MAY_AWAIT.iter().any(|p| inside.starts_with(p))
            || MAY_AWAIT_INSIDE.iter().any(|p| inside.contains(p));
        if (may && !NEVER_AWAIT.contains(&inside)) || source.is_test() {
            continue;
        }
        for (line, text) in source.code() {
            let code = without_comment(text);
            if code.contains("async ") || code.contains(".await") {
                let what = "waits; move it to driver.rs, task/ or handler/";
                found.push(format!("{}:{line}: {what}: {}", source.path, text.trim()));
            }
        }
    }
    report("a pure path waits", &found);
}

#[test]
fn banned_words_have_a_replacement() {
    let mut found = Vec::new();
    for source in files("src", "rs").iter().filter(|s| !s.is_test()) {
        let inside = source.inside_src();
        let is_door = inside == "disk/mod.rs" || inside == "net/mod.rs";
        for (line, text) in source.code() {
            let code = without_comment(text);
            for (word, allowed, instead) in BANS {
                let may = allowed.iter().any(|p| inside.starts_with(p))
                    || (is_door && code.contains("cfg(not(madsim))"));
                if code.contains(word) && !may {
                    found.push(format!("{}:{line}: `{word}`: {instead}", source.path));
                }
            }
        }
    }
    report("banned words", &found);
}

#[test]
fn files_functions_and_lines_have_a_limit() {
    let mut sources = files("src", "rs");
    sources.extend(files("sim", "rs"));
    let mut found = Vec::new();
    for source in sources.iter().filter(|s| !s.is_test()) {
        let count = source.code().count();
        if count > FILE_LINES_MAX && !LONG_FILES.iter().any(|(p, _)| *p == source.path) {
            found.push(format!("{}: {count} lines, split it by noun", source.path));
        }
        for (line, text) in source.code() {
            if text.chars().count() > COLUMNS_MAX {
                found.push(format!("{}:{line}: longer than {COLUMNS_MAX} columns", source.path));
            }
        }
        found.extend(long_functions(source));
    }
    report("too long", &found);
}

/// Relies on rustfmt: a function ends at the first closing brace with the indent of its `fn`.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.code().map(|(_, text)| text).collect();
    let mut found = Vec::new();
    for (start, text) in lines.iter().enumerate() {
        let word = text.trim_start();
        let head = word.split("fn ").next().unwrap_or_default();
        let is_fn = word.contains("fn ")
            && head
                .split_whitespace()
                .all(|w| w.starts_with("pub") || w == "async" || w == "const");
        if !is_fn || word.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", &text[..text.len() - word.len()]);
        let declared = format!("{})", &text[..text.len() - word.len()]);
        let last = lines[start..]
            .iter()
            .position(|l| *l == end || (l.starts_with(&declared) && l.ends_with(';')));
        let length = last.map_or(0, |n| n + 1);
        let name = word.split("fn ").nth(1).and_then(|w| w.split(['(', '<']).next()).unwrap_or("");
        let key = format!("{}:{name}", source.path);
        if length > FUNCTION_LINES_MAX && !LONG_FUNCTIONS.iter().any(|(n, _)| *n == key) {
            found.push(format!("{}:{}: {name} has {length} lines", source.path, start + 1));
        }
    }
    found
}

#[test]
fn every_room_has_its_sentence_in_the_architecture() {
    let map = fs::read_to_string(package().join("docs/ARCHITECTURE.md")).unwrap();
    let mut found = Vec::new();
    for (room, _) in LAYERS {
        let path = format!("src/{room}/mod.rs");
        let text = fs::read_to_string(package().join(&path)).unwrap();
        let page = text.lines().take_while(|line| line.starts_with("//! "));
        let sentence: Vec<&str> = page.map(|line| line.trim_start_matches("//! ").trim()).collect();
        let sentence = sentence.join(" ");
        let sentence = sentence.trim_end_matches('.');
        if sentence.is_empty() || !map.contains(sentence) {
            found.push(format!("{path}: not in the room table: {sentence}"));
        }
    }
    report("the first paragraph of a room's page and docs/ARCHITECTURE.md differ", &found);
}

#[test]
fn relative_links_in_the_docs_lead_somewhere() {
    let mut pages = files("docs", "md");
    pages.extend(files("", "md").into_iter().filter(|page| !page.path.contains('/')));
    let mut found = Vec::new();
    for page in &pages {
        let file = package().join(&page.path);
        for (line, text) in page.text.lines().enumerate() {
            for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = target.split('#').next().unwrap_or_default();
                let outside = target.contains("://") || path.is_empty();
                if !outside && !file.parent().unwrap().join(path).exists() {
                    found.push(format!("{}:{}: no such file: {target}", page.path, line + 1));
                }
            }
        }
    }
    report("broken links", &found);
}

#[test]
fn no_machine_paths_in_the_tree() {
    let words = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/tmp/", "hf"].concat()];
    let mut found = Vec::new();
    for extension in ["rs", "toml", "sh", "py", "java", "md", "conf", "yml", "xml", "patch"] {
        for source in files("", extension) {
            for (line, text) in source.text.lines().enumerate() {
                if words.iter().any(|word| text.contains(word.as_str())) {
                    found.push(format!("{}:{}: {}", source.path, line + 1, text.trim()));
                }
            }
        }
    }
    report("machine paths", &found);
}

#[test]
fn every_seed_file_names_an_existing_test() {
    let mut tests = BTreeSet::new();
    for under in ["src", "sim", "tests"] {
        for source in files(under, "rs") {
            for rest in source.text.split("fn ").skip(1) {
                tests.insert(rest.split('(').next().unwrap_or_default().to_string());
            }
        }
    }
    let mut found = Vec::new();
    for seed in files("sim/seeds", "toml") {
        let named = seed.text.lines().find_map(|line| line.strip_prefix("directed_test = "));
        match named.map(|value| value.trim_matches('"')) {
            Some(name) if tests.contains(name) => {}
            Some(name) => found.push(format!("{}: no test is called {name}", seed.path)),
            None => found.push(format!("{}: says no directed_test", seed.path)),
        }
    }
    report("seed files", &found);
}

/// Every function of the tree that has `#[test]` above it, or stands in `proptest!`.
fn test_names() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for under in ["src", "sim", "tests"] {
        for source in files(under, "rs") {
            for rest in source.text.split("test]\n").skip(1) {
                let name = rest.split_once("fn ").map(|(_, name)| name);
                let name = name.and_then(|name| name.split('(').next());
                tests.extend(name.map(str::to_owned));
            }
        }
    }
    tests
}

/// Whether a test function, `sim SCENARIO`, `just RECIPE` or `compat CHECK` is called so.
fn is_there(name: &str, tests: &BTreeSet<String>, recipes: &str) -> bool {
    match name.split_once(' ') {
        Some(("sim", scenario)) => Path::new(&format!("sim/scenarios/{scenario}.toml")).is_file(),
        Some(("just", recipe)) => {
            recipes.lines().any(|line| line.split([' ', ':']).next() == recipe.split(' ').next())
        }
        Some(("compat", check)) => fs::read_dir("tests/compat/java").unwrap().any(|file| {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            text.contains(&format!("report.check(\"{check}\","))
        }),
        _ => tests.contains(name),
    }
}

/// Rows of other chapters than concepts, features and best practice are not listed yet.
#[test]
fn every_row_of_the_chapter_names_what_exists() {
    let tests = test_names();
    let recipes = fs::read_to_string("Justfile").unwrap();
    let text = fs::read_to_string("docs/COMPATIBILITY.md").unwrap();
    let mut rows = text.lines().filter(|line| line.starts_with("| C-"));
    let mut found = Vec::new();
    for n in 10..=41 {
        let row = rows.next().unwrap_or_default();
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [id, _, shown, open] = cells[..] else {
            found.push(format!("C-{n}: a row of four cells is expected, got {row}"));
            continue;
        };
        if id != format!("C-{n}") {
            found.push(format!("row {id} stands where C-{n} is expected"));
        }
        if shown.is_empty() && open.is_empty() {
            found.push(format!("{id}: neither a test nor what is open"));
        }
        for name in shown.split('`').skip(1).step_by(2) {
            if !is_there(name, &tests, &recipes) {
                found.push(format!("{id}: nothing is called {name}"));
            }
        }
    }
    found.extend(rows.map(|row| format!("one row too many: {row}")));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_weakness_has_its_row_and_names_what_exists() {
    let tests = test_names();
    let recipes = fs::read_to_string("Justfile").unwrap();
    let text = fs::read_to_string("docs/COMPATIBILITY.md").unwrap();
    let mut found = Vec::new();
    let mut rows = text.lines().filter(|line| line.starts_with("| W-"));
    for n in 1..=39 {
        let Some(row) = rows.next() else {
            found.push(format!("docs/COMPATIBILITY.md: there is no row W-{n:02}"));
            break;
        };
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [id, _, _, guards, planted] = cells[..] else {
            found.push(format!("{row}: five cells are expected"));
            continue;
        };
        if id != format!("W-{n:02}") {
            found.push(format!("row {id} stands where W-{n:02} is expected"));
        }
        for name in guards.split('`').skip(1).step_by(2) {
            let exists = is_there(name, &tests, &recipes);
            if !exists {
                found.push(format!("{id}: neither test, scenario nor recipe is called {name}"));
            }
        }
        for name in planted.split('`').skip(1).step_by(2) {
            if !Path::new(&format!("sim/planted/{name}.patch")).is_file() {
                found.push(format!("{id}: no planted bug is called {name}"));
            }
        }
    }
    report("weaknesses", &found);
}
