//! `vault.age` and `vault.recipients` beside the registry: reads, encrypts and replaces them.
//!
//! The format is that of <https://age-encryption.org/v1> in its text form, so that the `age` program
//! opens the file and Git shows no binary. A writer holds a lock on the registry's directory (a lock
//! file would make the registry differ from its commit) and renames a finished file into place.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::x25519;
use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::registry_files::LARGEST_FILE;
use super::vault_server::CA_VARIABLE;
use crate::domain::vault::{Unreadable, Vault, decode, encode, not_admitted, recipient_lines};
use crate::environment;
use crate::error::UserError;

/// The vault's name within the registry.
pub const VAULT: &str = "vault.age";
/// Whom it is encrypted to, for people; a line each.
pub const RECIPIENTS: &str = "vault.recipients";
/// The variable with the key that opens the vault: the key itself, or the path of its file.
pub const IDENTITY_VARIABLE: &str = "ASTRA_VAULT_IDENTITY";
/// Written by who holds the lock, so there is only one; a killed writer's is overwritten.
const UNFINISHED: &str = ".vault.unfinished";
/// How a key begins, in lower case.
const KEY_START: &str = "age-secret-key-1";

/// The keys of the person or workflow that runs this program.
pub struct Identities(Vec<x25519::Identity>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identities").field(&self.recipients()).finish()
    }
}

/// [`IDENTITY_VARIABLE`] and [`CA_VARIABLE`] for a child in another directory: paths in them are made
/// absolute.
pub fn paths_for_child() -> impl Iterator<Item = (&'static str, OsString)> {
    [IDENTITY_VARIABLE, CA_VARIABLE].into_iter().filter_map(|name| {
        let value = environment::value(name).filter(|value| !is_inline(value))?;
        Some((name, std::path::absolute(value).ok()?.into_os_string()))
    })
}

/// Whether this is a key, and no path of one.
fn is_inline(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.to_lowercase().contains(KEY_START))
}

impl Identities {
    /// Reads [`IDENTITY_VARIABLE`]; `None` where it is not set.
    pub fn from_environment() -> Result<Option<Self>, UserError> {
        let Some(value) = environment::value(IDENTITY_VARIABLE) else {
            return Ok(None);
        };
        let inline = value.to_str().filter(|_| is_inline(&value));
        let text = match inline {
            Some(text) => SecretString::from(text),
            None => {
                // Not shown: it may be a mistyped key.
                let text = fs::read_to_string(Path::new(&value)).map_err(|error| {
                    UserError::usage(
                        format!("it holds no age identity, nor the path of a file that can be read: {error}"),
                        "give AGE-SECRET-KEY-1… itself, or the path of the file that `age-keygen -o` wrote",
                    )
                    .at(IDENTITY_VARIABLE)
                })?;
                SecretString::from(text)
            }
        };
        Self::parse(&text).map(Some)
    }

    /// As [`Self::from_environment`], where nothing can be done without.
    pub fn required() -> Result<Self, UserError> {
        Self::from_environment()?.ok_or_else(|| {
            UserError::usage(
                "the vault cannot be opened without an identity",
                "set ASTRA_VAULT_IDENTITY to the path of your key file (`age-keygen -o FILE` makes one) \
                 or to the key itself",
            )
        })
    }

    fn parse(text: &SecretString) -> Result<Self, UserError> {
        let fault = |cause: String, remedy: &str| UserError::usage(cause, remedy).at(IDENTITY_VARIABLE);
        let text = text.expose_secret();
        if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE ENCRYPTED") {
            return Err(fault(
                "the identity itself is encrypted with a passphrase".to_owned(),
                "open it with `age -d` and give what comes out",
            ));
        }
        let mut identities = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            identities.push(line.parse::<x25519::Identity>().map_err(|_| {
                fault(
                    format!("line {} is no age identity", index + 1),
                    "give AGE-SECRET-KEY-1… whole, as `age-keygen` wrote it",
                )
            })?);
        }
        if identities.is_empty() {
            return Err(fault("it holds no identity".to_owned(), "give the file that `age-keygen -o` wrote"));
        }
        Ok(Self(identities))
    }

    /// The public halves.
    pub fn recipients(&self) -> Vec<String> {
        self.0.iter().map(|one| one.to_public().to_string()).collect()
    }
}

/// Whether the text is a recipient: a public key, `age1…`.
pub fn check_recipient(text: &str) -> Result<(), UserError> {
    if text.to_lowercase().contains(KEY_START) {
        return Err(UserError::usage(
            "this is a secret key, not a recipient: it is now in your shell's history",
            "make a new one with `age-keygen -o FILE`, and give its public key, `age-keygen -y FILE`",
        ));
    }
    text.parse::<x25519::Recipient>().map(|_| ()).map_err(|_| {
        UserError::usage(
            "this is no age recipient",
            "give a public key, age1…, as `age-keygen -y FILE` prints it",
        )
    })
}

/// Reads the vault of a registry; `None` where there is none.
pub fn read(registry: &Path, identities: &Identities) -> anyhow::Result<Option<Vault>> {
    let path = registry.join(VAULT);
    match read_capped(&path)? {
        None => Ok(None),
        Some(bytes) => Ok(Some(decrypt(&bytes, identities, &path)?)),
    }
}

/// Whether the registry has a vault.
pub fn exists(registry: &Path) -> bool {
    fs::symlink_metadata(registry.join(VAULT)).is_ok()
}

/// Reads a file of at most [`LARGEST_FILE`] bytes; `None` where there is none.
pub fn read_capped(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let place = path.display().to_string();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("look at {place}")),
        Ok(metadata) if !metadata.is_file() => {
            return Err(UserError::usage("it is no regular file", "put the file itself here")
                .at(place)
                .into());
        }
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| format!("open {place}"))?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).with_context(|| format!("read {place}"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(too_large().at(place).into());
    }
    Ok(Some(bytes))
}

fn too_large() -> UserError {
    UserError::usage(
        format!("the vault is larger than {} KiB, the limit of a registry file", LARGEST_FILE / 1024),
        "remove what no agent needs with `vault remove`",
    )
}

/// Opens the bytes of `place`.
pub fn decrypt(bytes: &[u8], identities: &Identities, place: &Path) -> Result<Vault, UserError> {
    let fault =
        |cause: String, remedy: String| UserError::usage(cause, remedy).at(place.display().to_string());
    let damaged = || {
        fault(
            "the vault is damaged or cut off".to_owned(),
            format!(
                "take it from Git again: `git log -- {0}`, then `git checkout <commit> -- {0}`",
                place.display()
            ),
        )
    };
    if bytes.starts_with(b"<<<<<<<") || bytes.windows(8).any(|part| part == b"\n<<<<<<<") {
        return Err(fault(
            "Git could not merge the vault and wrote both sides into it".to_owned(),
            "take the sides with `git show :1:PATH`, `:2:` and `:3:`, and run `astra-dispatch vault merge` \
             on them"
                .to_owned(),
        ));
    }
    let decryptor =
        age::Decryptor::new_buffered(io::BufReader::new(ArmoredReader::new(bytes))).map_err(|_| damaged())?;
    let keys = identities.0.iter().map(|one| one as &dyn age::Identity);
    let mut reader = decryptor.decrypt(keys).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => fault(
            "your identity does not open the vault".to_owned(),
            format!(
                "give another one in {IDENTITY_VARIABLE}, or let somebody who can open it run \
                 `astra-dispatch vault recipients add {}`",
                identities.recipients().join(" ")
            ),
        ),
        _ => damaged(),
    })?;
    let mut plain = Vec::with_capacity(bytes.len());
    reader.read_to_end(&mut plain).map_err(|_| damaged())?;
    let plain = SecretSlice::from(plain);
    decode(plain.expose_secret()).map_err(|error| match error {
        Unreadable::Version(_) => fault(error.to_string(), "use the release that wrote it".to_owned()),
        Unreadable::NoVault { .. } => {
            fault(error.to_string(), format!("take {VAULT} from Git as it was before"))
        }
    })
}

/// Encrypts a vault to its recipients.
pub fn encrypt(vault: &Vault) -> anyhow::Result<Vec<u8>> {
    let mut recipients = Vec::new();
    for one in &vault.recipients {
        check_recipient(one).map_err(|error| error.at(one.clone()))?;
        recipients.extend(one.parse::<x25519::Recipient>().ok());
    }
    let keys = recipients.iter().map(|one| one as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(keys).map_err(|_| {
        UserError::usage(
            "the vault would have no recipient, and nobody could open it",
            "add one with `astra-dispatch vault recipients add`",
        )
    })?;
    let plain = encode(vault).context("write the vault as JSON")?;
    let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).context("encrypt the vault")?;
    let mut writer = encryptor.wrap_output(armor).context("encrypt the vault")?;
    writer.write_all(plain.expose_secret().as_bytes()).context("encrypt the vault")?;
    let bytes = writer.finish().and_then(ArmoredWriter::finish).context("encrypt the vault")?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(too_large().into());
    }
    Ok(bytes)
}

/// A vault that is being changed: whoever else wants to waits.
#[derive(Debug)]
pub struct Edit {
    directory: PathBuf,
    /// The directory itself; its lock ends with this.
    _lock: File,
    /// The vault; empty where there was none.
    pub vault: Vault,
    /// Whether there was none.
    pub is_new: bool,
}

impl Edit {
    /// Waits for its turn and reads the vault. A new vault is for the recipients that
    /// `vault.recipients` names, and for who makes it.
    pub fn begin(registry: &Path, identities: &Identities) -> anyhow::Result<Self> {
        let place = registry.display();
        let lock = File::open(registry).map_err(|_| {
            UserError::usage(
                "there is no registry here",
                "give its directory with --registry or ASTRA_REGISTRY",
            )
            .at(place.to_string())
        })?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {place}"))?;
        let held = read(registry, identities)?;
        let is_new = held.is_none();
        let mut vault = held.unwrap_or_default();
        if is_new {
            let text = recipients_text(registry)?;
            for line in not_admitted(&text, &vault.recipients) {
                check_recipient(line)
                    .map_err(|error| error.at(registry.join(RECIPIENTS).display().to_string()))?;
            }
            let named: Vec<String> =
                not_admitted(&text, &vault.recipients).into_iter().map(str::to_owned).collect();
            vault.recipients.extend(named);
            vault.recipients.extend(identities.recipients());
        }
        Ok(Self { directory: registry.to_owned(), _lock: lock, vault, is_new })
    }

    /// Replaces both files; `removed` is the recipient that was taken out.
    pub fn commit(self, removed: Option<&str>) -> anyhow::Result<()> {
        self.replace(VAULT, &encrypt(&self.vault)?)?;
        let before = recipients_text(&self.directory)?;
        let after = recipient_lines(&before, &self.vault.recipients, removed);
        if after != before {
            self.replace(RECIPIENTS, after.as_bytes())?;
        }
        Ok(())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        replace(&self.directory.join(name), &self.directory.join(UNFINISHED), bytes)
    }
}

/// Puts a finished file in the place of another one, whole or not at all.
pub fn replace(path: &Path, unfinished: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        // Whatever is there is a killed writer's, or a link that must not be followed.
        match fs::remove_file(unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::create_new(unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(unfinished, path)?;
        // The rename itself outlives a power cut only then.
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| format!("write {}; it is as it was before", path.display()))
}

/// `vault.recipients`; empty where there is none.
pub fn recipients_text(registry: &Path) -> anyhow::Result<String> {
    let path = registry.join(RECIPIENTS);
    let bytes = read_capped(&path)?.unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| {
        UserError::usage("it is no text", "write one recipient, age1…, a line")
            .at(path.display().to_string())
            .into()
    })
}

#[cfg(test)]
mod tests;
