use super::*;

fn identities() -> Identities {
    Identities(vec![x25519::Identity::generate()])
}

fn vault_for(identities: &Identities) -> Vault {
    let mut vault = Vault { recipients: identities.recipients().into_iter().collect(), ..Vault::default() };
    let agent = "vega".parse().unwrap();
    vault.set(&agent, "KEY", "canary-value-1".to_owned().into(), jiff::Timestamp::UNIX_EPOCH);
    vault
}

#[test]
fn damage_of_every_kind_is_one_error_and_shows_nothing() {
    let own = identities();
    let whole = encrypt(&vault_for(&own)).unwrap();
    assert!(whole.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----\n"));
    let place = Path::new("vault.age");
    for length in 0..whole.len() - 1 {
        let error = decrypt(&whole[..length], &own, place).unwrap_err();
        assert_eq!(error.to_string(), "vault.age: the vault is damaged or cut off", "{length}");
    }
    for index in 0..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[index] ^= 4;
        let read = decrypt(&bytes, &own, place);
        // A bit of the base64 text that encodes nothing may flip; nothing else goes unnoticed.
        match read {
            Err(error) => assert!(!format!("{error:?}").contains("canary"), "{index}"),
            Ok(vault) => assert_eq!(vault.entries().count(), 1, "{index}"),
        }
    }
    let marked = [b"<<<<<<< HEAD\n".as_slice(), &whole].concat();
    assert!(decrypt(&marked, &own, place).unwrap_err().to_string().contains("could not merge"));
}

#[test]
fn another_identity_is_told_how_to_get_in() {
    let (own, other) = (identities(), identities());
    let bytes = encrypt(&vault_for(&own)).unwrap();
    let error = decrypt(&bytes, &other, Path::new("vault.age")).unwrap_err();
    assert_eq!(error.cause, "your identity does not open the vault");
    assert!(error.remedy.contains(&other.recipients()[0]), "{}", error.remedy);
}

#[test]
fn an_identity_is_a_key_with_or_without_its_comments() {
    let key = x25519::Identity::generate().to_string();
    let key = key.expose_secret();
    for (text, expected) in [
        (key.to_owned(), Ok(1)),
        (format!("# created: today\n# public key: age1…\n{key}\n\n{key}\n"), Ok(2)),
        (String::new(), Err("it holds no identity")),
        (format!("{key}X"), Err("line 1 is no age identity")),
        (format!("# comment\n{}", &key[..30]), Err("line 2 is no age identity")),
        (
            "-----BEGIN AGE ENCRYPTED FILE-----".to_owned(),
            Err("the identity itself is encrypted with a passphrase"),
        ),
    ] {
        let read = Identities::parse(&text.into()).map(|read| read.0.len()).map_err(|error| error.cause);
        assert_eq!(read, expected.map_err(str::to_owned));
    }
}

#[test]
fn a_recipient_is_a_public_key() {
    let key = x25519::Identity::generate();
    assert_eq!(check_recipient(&key.to_public().to_string()), Ok(()));
    let cause = |text: &str| check_recipient(text).unwrap_err().cause;
    for text in ["", "age1", "ssh-ed25519 AAAA", "age1qqqq", &key.to_public().to_string()[..40]] {
        assert_eq!(cause(text), "this is no age recipient", "{text}");
    }
    assert!(cause(key.to_string().expose_secret()).starts_with("this is a secret key"));
}

#[test]
fn a_vault_has_the_size_of_a_registry_file_at_most() {
    let own = identities();
    let mut vault = vault_for(&own);
    let agent = "vega".parse().unwrap();
    for key in ["A", "B", "C"] {
        vault.set(&agent, key, "x".repeat(64 * 1024).into(), jiff::Timestamp::UNIX_EPOCH);
    }
    let error = encrypt(&vault).unwrap_err().to_string();
    assert_eq!(error, "the vault is larger than 256 KiB, the limit of a registry file");
}

#[test]
fn who_adds_a_line_by_hand_is_not_let_in() {
    let home = tempfile::tempdir().unwrap();
    let (own, other) = (identities(), identities());
    Edit::begin(home.path(), &own).unwrap().commit(None).unwrap();
    let lines = [own.recipients(), other.recipients()].concat().join("\n");
    fs::write(home.path().join(RECIPIENTS), lines).unwrap();
    Edit::begin(home.path(), &own).unwrap().commit(None).unwrap();
    assert!(read(home.path(), &own).is_ok() && read(home.path(), &other).is_err());
}

#[test]
fn a_writer_follows_no_link_and_minds_no_leftover() {
    let home = tempfile::tempdir().unwrap();
    let own = identities();
    let elsewhere = home.path().join("elsewhere");
    fs::write(&elsewhere, "kept").unwrap();
    std::os::unix::fs::symlink(&elsewhere, home.path().join(UNFINISHED)).unwrap();
    Edit::begin(home.path(), &own).unwrap().commit(None).unwrap();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
    fs::remove_file(home.path().join(VAULT)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, home.path().join(VAULT)).unwrap();
    assert!(read(home.path(), &own).unwrap_err().to_string().ends_with("it is no regular file"));
}
