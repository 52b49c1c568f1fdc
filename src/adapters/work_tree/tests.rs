use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

struct Tree {
    home: tempfile::TempDir,
    base: BaseTree,
}

impl Tree {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), base: BaseTree::new() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    /// A tracked file that is still as it was.
    fn tracked(mut self, path: &str, content: &str) -> Self {
        self.put(path, content);
        self.base.insert(path.into(), (MODE_FILE, hash(content.as_bytes())));
        self
    }

    fn changes(&self) -> Result<Vec<String>, String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let changes = changes(self.home.path(), &self.base, deadline).map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(changes
            .iter()
            .map(|change| match change {
                WorkChange::Deleted(path) => format!("D {}", text(path)),
                WorkChange::Written { path, mode, content } => {
                    format!("{mode:o} {} {}", text(path), text(content))
                }
            })
            .collect())
    }
}

#[test]
fn what_is_as_it_was_is_no_change() {
    let tree = Tree::new().tracked("a.txt", "a\n").tracked("dir/b.txt", "b\n");
    assert_eq!(tree.changes().unwrap(), [""; 0]);
}

#[test]
fn files_are_added_changed_and_deleted() {
    let tree = Tree::new().tracked("a", "a").tracked("b", "b").tracked("dir/c", "c").tracked("x", "x");
    tree.put("a", "changed");
    fs::remove_dir_all(tree.path("dir")).unwrap();
    tree.put("new/file", "new");
    fs::set_permissions(tree.path("x"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(tree.path("empty/dir")).unwrap();
    assert_eq!(tree.changes().unwrap(), ["D dir/c", "100644 a changed", "100644 new/file new", "100755 x x"]);
}

#[test]
fn a_file_can_become_a_directory_and_back() {
    let tree = Tree::new().tracked("a", "a").tracked("dir/b", "b");
    fs::remove_file(tree.path("a")).unwrap();
    tree.put("a/inner", "i");
    fs::remove_dir_all(tree.path("dir")).unwrap();
    tree.put("dir", "file");
    assert_eq!(tree.changes().unwrap(), ["D a", "D dir/b", "100644 a/inner i", "100644 dir file"]);
}

#[test]
fn links_are_taken_as_links_and_never_followed() {
    let tree = Tree::new().tracked("a", "a").tracked("dir/b", "b");
    symlink("/etc/passwd", tree.path("secret")).unwrap();
    fs::remove_file(tree.path("a")).unwrap();
    symlink("../..", tree.path("a")).unwrap();
    fs::remove_dir_all(tree.path("dir")).unwrap();
    symlink("/", tree.path("dir")).unwrap();
    assert_eq!(
        tree.changes().unwrap(),
        ["D dir/b", "120000 a ../..", "120000 dir /", "120000 secret /etc/passwd"]
    );
}

#[test]
fn pipes_are_not_waited_for() {
    let tree = Tree::new().tracked("a", "a");
    fs::remove_file(tree.path("a")).unwrap();
    for name in ["a", "pipe", ".gitignore"] {
        rustix::fs::mknodat(rustix::fs::CWD, tree.path(name), FileType::Fifo, Mode::RUSR, 0).unwrap();
    }
    assert_eq!(tree.changes().unwrap(), ["D a"]);
}

#[test]
fn nested_repositories_are_ordinary_files_without_their_repository() {
    let tree = Tree::new();
    tree.put(".git/config", "[core]\n\tfsmonitor = /bin/false\n");
    tree.put("vendor/lib/.git/config", "x");
    tree.put("vendor/lib/src.c", "int x;");
    tree.put("other/.GIT", "gitdir: /elsewhere");
    tree.put("other/file", "f");
    assert_eq!(tree.changes().unwrap(), ["100644 other/file f", "100644 vendor/lib/src.c int x;"]);
}

#[test]
fn a_submodule_stays_unless_something_takes_its_place() {
    let mut tree = Tree::new();
    for name in ["absent", "empty", "filled", "replaced"] {
        tree.base.insert(name.into(), (MODE_SUBMODULE, "1".repeat(40)));
    }
    fs::create_dir(tree.path("empty")).unwrap();
    tree.put("filled/file", "f");
    tree.put("replaced", "r");
    assert_eq!(tree.changes().unwrap(), ["D filled", "100644 filled/file f", "100644 replaced r"]);
}

#[test]
fn ignored_files_are_left_out_unless_they_are_tracked() {
    let tree = Tree::new()
        .tracked(".gitignore", "/target/\n*.log\n")
        .tracked("target/tracked", "t")
        .tracked("kept.log", "k");
    tree.put("target/tracked", "changed");
    tree.put("target/junk", "j");
    tree.put("target/deep/junk", "j");
    tree.put("kept.log", "changed");
    tree.put("new.log", "n");
    tree.put("sub/.gitignore", "!new.log\nnode_modules\n");
    tree.put("sub/new.log", "n");
    tree.put("sub/node_modules/x", "n");
    assert_eq!(
        tree.changes().unwrap(),
        [
            "100644 kept.log changed",
            "100644 sub/.gitignore !new.log\nnode_modules\n",
            "100644 sub/new.log n",
            "100644 target/tracked changed"
        ]
    );
}

#[test]
fn what_was_made_unreadable_is_read_all_the_same() {
    let tree = Tree::new().tracked("locked/a", "a");
    tree.put("locked/b", "b");
    fs::set_permissions(tree.path("locked/b"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(tree.path("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(tree.changes().unwrap(), ["100644 locked/b b"]);
}

#[test]
fn too_much_is_refused_without_reading_it() {
    let refused = |make: &dyn Fn(&Tree)| {
        let tree = Tree::new().tracked("sparse", "s");
        make(&tree);
        tree.changes().unwrap_err()
    };
    let sparse = |tree: &Tree, name: &str, bytes: u64| {
        fs::File::create(tree.path(name)).unwrap().set_len(bytes).unwrap();
    };
    let error = refused(&|tree| sparse(tree, "new", 10 << 30));
    assert_eq!(error, "new has 10737418240 bytes; a changed file may have 20 MiB");
    let error = refused(&|tree| sparse(tree, "sparse", 10 << 30));
    assert_eq!(error, "sparse has 10737418240 bytes; a changed file may have 20 MiB");
    let error = refused(&|tree| sparse(tree, "sparse", MAX_FILE_BYTES + 1));
    assert_eq!(error, "sparse has 20971521 bytes; a changed file may have 20 MiB");
    let error = refused(&|tree| (0..6).for_each(|n| sparse(tree, &format!("f{n}"), MAX_FILE_BYTES)));
    assert_eq!(error, "the changed files have more than 100 MiB together");
    let error = refused(&|tree| (0..=MAX_CHANGED_FILES).for_each(|n| tree.put(&format!("d/{n}"), "")));
    assert_eq!(error, "5001 or more files are changed; at most 5000 may be");
    let error = refused(&|tree| tree.put(&format!("{}x", "d/".repeat(MAX_DEPTH + 1)), ""));
    assert_eq!(error, "directories lie more than 100 deep in each other");
}

#[test]
fn a_large_file_that_is_as_it_was_is_no_change() {
    let mut tree = Tree::new();
    let bytes = vec![b'x'; 21 << 20];
    fs::write(tree.path("big"), &bytes).unwrap();
    tree.base.insert(b"big".to_vec(), (MODE_FILE, hash(&bytes)));
    assert_eq!(tree.changes().unwrap(), [""; 0]);
}

#[test]
fn names_are_bytes() {
    let tree = Tree::new();
    let name = std::ffi::OsStr::from_bytes(b"a\xff\n\"b");
    fs::write(tree.home.path().join(name), "x").unwrap();
    assert_eq!(tree.changes().unwrap(), ["100644 a\u{fffd}\n\"b x"]);
}

#[test]
fn a_workspace_that_is_gone_or_a_link_is_no_workspace() {
    let home = tempfile::tempdir().unwrap();
    symlink("/etc", home.path().join("link")).unwrap();
    for name in ["absent", "link"] {
        let walked =
            changes(&home.path().join(name), &BaseTree::new(), Instant::now() + Duration::from_secs(9));
        assert!(matches!(walked, Err(WorkTreeError::Gone)));
    }
}

#[test]
fn time_has_an_end() {
    let tree = Tree::new();
    let walked = changes(tree.home.path(), &tree.base, Instant::now() - Duration::from_secs(1));
    assert!(matches!(walked, Err(WorkTreeError::TimedOut)));
}

#[test]
fn git_listings_are_read() {
    let listing = b"100644 blob aaaa\ta b.txt\x00160000 commit bbbb\tsub\x00";
    let base = parse_base(listing).unwrap();
    assert_eq!(base[&b"a b.txt".to_vec()], (MODE_FILE, "aaaa".to_owned()));
    assert_eq!(base[&b"sub".to_vec()], (MODE_SUBMODULE, "bbbb".to_owned()));
    assert_eq!(parse_base(b""), Some(BaseTree::new()));
    assert_eq!(parse_base(b"garbage\0"), None);
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// On trees without tricks this walk and `git add` agree.
    #[test]
    fn git_would_have_taken_the_same_files(
        files in prop::collection::btree_set("([ab]{1,2}/){0,2}[abc]{1,2}(\\.log)?", 1..12),
        rules in prop::collection::vec("!?/?(\\*\\*/)?[ab*]{1,2}(/[ab]|/|\\.log)?", 0..4),
        nested in prop::collection::vec("!?/?[abc*]{1,2}/?", 0..3),
    ) {
        let tree = Tree::new();
        let is_free = |file: &String| !files.iter().any(|other| is_below(other.as_bytes(), file.as_bytes()));
        for file in files.iter().filter(|file| is_free(file)) {
            tree.put(file, file);
        }
        tree.put(".gitignore", &rules.join("\n"));
        if tree.path("a").is_dir() {
            tree.put("a/.gitignore", &nested.join("\n"));
        }
        let ours: BTreeSet<String> = tree.changes().unwrap().iter()
            .map(|change| change.split(' ').nth(1).unwrap().to_owned()).collect();
        git(tree.home.path(), &["init", "-q"]);
        let theirs: BTreeSet<String> =
            git(tree.home.path(), &["ls-files", "--others", "--exclude-standard"]).lines().map(str::to_owned).collect();
        prop_assert_eq!(ours, theirs);
    }
}
