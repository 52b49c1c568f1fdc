//! The private repository that a run's work is opened in, looked at as objects and pushed from.
//! Nothing is ever checked out.

use std::path::Path;

use tokio::time::Instant;

use super::git::{Git, GitError, GitProcess, Remote};
use crate::domain::bundle::{self, object_name};
use crate::domain::gate::{Change, MODE_SUBMODULE, Version};

/// Where the delivered commit is kept within the repository.
const OPENED_REF: &str = "refs/astra/work";
/// Address space of a process that unpacks what an agent packed, in bytes: a delta can ask for more.
const UNPACK_MEMORY: u64 = 4 << 30;
/// Largest pack that is unpacked, in bytes.
pub const PACK_LIMIT: u64 = 128 << 20;
/// Longest result document that is read back, in bytes.
const RESULT_LIMIT: usize = 4 << 20;
/// The file of the result commit.
const RESULT_FILE: &str = "result.json";
/// Author of the result commit.
const RESULT_AUTHOR: &str = "astra-dispatch <astra-dispatch@users.noreply.github.com>";

/// Work that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bundle is not what `collect` makes.
    #[error("the bundle is not one of ours: {0}")]
    Foreign(&'static str),
    /// Git does not take its objects.
    #[error("the bundle's objects are not sound: {0}")]
    Unsound(String),
    /// Git could not do its work.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// The repository.
#[derive(Debug)]
pub struct Delivery {
    git: Git,
    remote: Remote,
}

impl Delivery {
    /// Makes it, empty.
    pub async fn new(place: &Path, remote: Remote, deadline: Instant) -> Result<Self, GitError> {
        Ok(Self { git: Git::init_bare(place, deadline).await?, remote })
    }

    /// Those of the named refs that the remote has, with what they point to.
    pub async fn remote_refs(&self, names: &[String]) -> Result<Vec<(String, String)>, GitError> {
        let arguments = ["ls-remote", "--refs", self.remote.url()].map(str::to_owned);
        let output = self
            .git
            .with_remote(&self.remote)
            .run(arguments.into_iter().chain(names.iter().cloned()))
            .await?;
        let output = String::from_utf8_lossy(&output);
        let refs = output.lines().filter_map(|line| line.split_once('\t'));
        // Names are patterns to git: `x/y` would also list `refs/heads/z/x/y`.
        let refs = refs.filter(|(_, name)| names.iter().any(|wanted| wanted == name));
        Ok(refs.map(|(id, name)| (name.to_owned(), id.to_owned())).collect())
    }

    /// Fetches one commit with its tree, without its history.
    pub async fn fetch_commit(&self, commit: &str) -> Result<(), GitError> {
        let url = self.remote.url();
        let arguments = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1", url, commit];
        self.git.with_remote(&self.remote).run(arguments).await.map(drop)
    }

    /// Reads the result document that a result ref points to; `None` if it holds none.
    pub async fn fetch_result(&self, commit: &str) -> Result<Option<Vec<u8>>, GitError> {
        self.fetch_commit(commit).await?;
        let name = format!("{commit}:{RESULT_FILE}");
        let size = self
            .git
            .run_with_input(
                ["cat-file", "--batch-check=%(objecttype) %(objectsize)"],
                format!("{name}\n").as_bytes(),
            )
            .await?;
        let size =
            String::from_utf8_lossy(&size).trim().strip_prefix("blob ").and_then(|size| size.parse().ok());
        match size {
            Some(0..=RESULT_LIMIT) => self.git.run(["cat-file", "blob", &name]).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Unpacks a bundle, whose objects may be anything, and returns the commit that it brings.
    /// The base must be there.
    pub async fn open(&self, bundle: &[u8], base: &str) -> Result<String, OpenError> {
        let bundle = bundle::parse(bundle).ok_or(OpenError::Foreign("it has no head of version 2"))?;
        if bundle.prerequisites != [base] {
            return Err(OpenError::Foreign("it does not stand on the prepared commit"));
        }
        let [(commit, super::run_directory::WORK_REF)] = bundle.refs[..] else {
            return Err(OpenError::Foreign("it does not bring exactly the work"));
        };
        let limit = format!("--max-input-size={PACK_LIMIT}");
        let unpack = ["index-pack", "--stdin", "--fix-thin", "--strict", "--threads=1", &limit];
        let unpacked = self.git.with_memory_limit(UNPACK_MEMORY).run_with_input(unpack, bundle.pack).await;
        match unpacked {
            Err(GitError::Failed { said, trouble, .. }) if trouble != super::git::Trouble::DiskFull => {
                return Err(OpenError::Unsound(said));
            }
            unpacked => unpacked?,
        };
        let kind = self
            .git
            .run_with_input(["cat-file", "--batch-check=%(objecttype)"], format!("{commit}\n").as_bytes())
            .await?;
        if kind != b"commit\n" {
            return Err(OpenError::Foreign("what it brings is not a commit"));
        }
        self.git.run(["update-ref", OPENED_REF, commit]).await?;
        Ok(commit.to_owned())
    }

    /// The commit object as it is.
    pub async fn commit_text(&self, commit: &str) -> Result<Vec<u8>, GitError> {
        self.git.run(["cat-file", "commit", commit]).await
    }

    /// Every path that differs between two commits.
    pub async fn changes(&self, base: &str, commit: &str) -> Result<Vec<Change>, OpenError> {
        let arguments =
            ["diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", "--no-commit-id", base, commit];
        let mut changes = parse_changes(&self.git.run(arguments).await?)
            .ok_or(OpenError::Foreign("its changes cannot be read"))?;
        let mut sizes = self.git.start(["cat-file", "--batch-check=%(objectsize)"])?;
        let versions =
            changes.iter_mut().flat_map(|change| change.old.iter_mut().chain(change.new.iter_mut()));
        for version in versions.filter(|version| version.mode != MODE_SUBMODULE) {
            sizes.write(format!("{}\n", version.id).as_bytes()).await?;
            version.bytes =
                sizes.read_line().await?.parse().map_err(|_| OpenError::Foreign("an object is missing"))?;
        }
        sizes.finish().await?;
        Ok(changes)
    }

    /// Starts reading contents.
    pub fn contents(&self) -> Result<Contents, GitError> {
        Ok(Contents { process: self.git.start(["cat-file", "--batch"])? })
    }

    /// Makes a commit without parents that holds only the result document.
    pub async fn result_commit(&self, document: &[u8], run: &str, seconds: i64) -> Result<String, GitError> {
        let id = async |kind: &str, bytes: &[u8]| {
            let id = self.git.run_with_input(["hash-object", "-t", kind, "-w", "--stdin"], bytes).await?;
            Ok::<_, GitError>(String::from_utf8_lossy(&id).trim().to_owned())
        };
        let blob = id("blob", document).await?;
        let tree = self
            .git
            .run_with_input(["mktree"], format!("100644 blob {blob}\t{RESULT_FILE}\n").as_bytes())
            .await?;
        let tree = String::from_utf8_lossy(&tree).trim().to_owned();
        let commit = format!(
            "tree {tree}\nauthor {RESULT_AUTHOR} {seconds} +0000\ncommitter {RESULT_AUTHOR} {seconds} +0000\n\nResult of {run}\n"
        );
        id("commit", commit.as_bytes()).await
    }

    /// Makes all of these refs (name, commit) on the remote, or none: each must not be there yet.
    pub async fn push(&self, refs: &[(String, String)]) -> Result<(), GitError> {
        let mut arguments: Vec<String> =
            ["push", "--quiet", "--atomic", "--no-thin", "--no-verify", "--no-signed"]
                .map(str::to_owned)
                .to_vec();
        arguments.extend(refs.iter().map(|(name, _)| format!("--force-with-lease={name}:")));
        arguments.push(self.remote.url().to_owned());
        arguments.extend(refs.iter().map(|(name, commit)| format!("{commit}:{name}")));
        self.git.with_remote(&self.remote).run(arguments).await.map(drop)
    }

    /// Removes a ref from the remote, if it points to this commit.
    pub async fn delete(&self, name: &str, commit: &str) -> Result<(), GitError> {
        let (lease, nothing) = (format!("--force-with-lease={name}:{commit}"), format!(":{name}"));
        let arguments =
            ["push", "--quiet", "--no-verify", "--no-signed", &lease, self.remote.url(), &nothing];
        self.git.with_remote(&self.remote).run(arguments).await.map(drop)
    }
}

/// Contents of objects, read one by one.
#[derive(Debug)]
pub struct Contents {
    process: GitProcess,
}

impl Contents {
    /// The content of one side of a change.
    pub async fn read(&mut self, version: &Version) -> Result<Vec<u8>, OpenError> {
        self.process.write(format!("{}\n", version.id).as_bytes()).await?;
        let head = self.process.read_line().await?;
        let size = usize::try_from(version.bytes).unwrap_or(usize::MAX);
        if head != format!("{} blob {size}", version.id) {
            return Err(OpenError::Foreign("an object is not a file's content"));
        }
        let mut content = self.process.read_exact(size + 1).await?;
        content.truncate(size);
        Ok(content)
    }

    /// Ends the reading.
    pub async fn finish(self) -> Result<(), GitError> {
        self.process.finish().await
    }
}

/// Reads `git diff-tree -z --raw`: `:mode mode id id status`, NUL, path, NUL.
fn parse_changes(output: &[u8]) -> Option<Vec<Change>> {
    let mut fields = output.split(|&byte| byte == 0).filter(|field| !field.is_empty());
    let mut changes = Vec::new();
    while let Some(head) = fields.next() {
        let words: Vec<&str> = std::str::from_utf8(head.strip_prefix(b":")?).ok()?.split(' ').collect();
        let [old_mode, new_mode, old_id, new_id, _status] = words[..] else { return None };
        let version = |mode: &str, id: &str| {
            let mode = u32::from_str_radix(mode, 8).ok()?;
            let id = object_name(id.as_bytes())?.to_owned();
            Some((mode != 0).then_some(Version { mode, id, bytes: 0 }))
        };
        let (old, new) = (version(old_mode, old_id)?, version(new_mode, new_id)?);
        changes.push(Change { path: fields.next()?.to_vec(), old, new });
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read() {
        let (a, z) = ("a".repeat(40), "0".repeat(40));
        let output = format!(":100644 000000 {a} {z} D\0old\0:000000 120000 {z} {a} A\0new\n x\0");
        let changes = parse_changes(output.as_bytes()).unwrap();
        assert_eq!(changes.len(), 2);
        assert_eq!((changes[0].path.as_slice(), changes[0].new.as_ref()), (b"old".as_slice(), None));
        assert_eq!(changes[1].new.as_ref().map(|new| new.mode), Some(0o120_000));
        assert_eq!(parse_changes(b"garbage\0x\0"), None);
        assert_eq!(parse_changes(b""), Some(vec![]));
    }
}
