use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

const SALT: [u8; 16] = *b"0123456789abcdef";

fn scanner(secrets: &[(&str, &str)]) -> Scanner {
    Scanner::new(&SecretPrints::new(SALT, secrets.iter().copied())).unwrap()
}

fn found(secret: &str, text: impl AsRef<[u8]>) -> bool {
    !scanner(&[("KEY", secret)]).scan(text.as_ref()).is_empty()
}

const SECRET: &str = "s3cr3t/Value+with=signs&more\"0987";

#[test]
fn every_usual_encoding_is_found() {
    let percent: String = SECRET.bytes().map(|b| format!("%{b:02X}")).collect();
    let utf16: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("plain", SECRET.into()),
        ("base64", STANDARD.encode(SECRET).into()),
        ("base64 of a line with it", STANDARD.encode(format!("KEY={SECRET}\n")).into()),
        ("base64 of a document with it", STANDARD.encode(format!("{{\"key\": \"{SECRET}\"}}")).into()),
        ("URL-safe base64", URL_SAFE_NO_PAD.encode(format!(">>{SECRET}")).into()),
        ("hexadecimal", hex::encode(SECRET).into()),
        ("upper-case hexadecimal", hex::encode_upper(SECRET).into()),
        ("a hex dump", SECRET.bytes().map(|b| format!("{b:02x} ")).collect::<String>().into()),
        (
            "URL-encoded",
            SECRET
                .replace('/', "%2F")
                .replace('+', "%2B")
                .replace('=', "%3d")
                .replace('&', "%26")
                .replace('"', "%22")
                .into(),
        ),
        ("every byte URL-encoded", percent.into()),
        ("JSON", serde_json::to_vec(&SECRET).unwrap()),
        ("shell", format!("KEY={}", SECRET.replace('"', "\\\"").replace('&', "\\&")).into()),
        ("HTML", SECRET.replace('&', "&amp;").replace('"', "&quot;").into()),
        ("reversed", SECRET.chars().rev().collect::<String>().into()),
        ("split over two strings", format!("\"{}\" +\n  \"{}\"", &SECRET[..9], &SECRET[9..]).into()),
        ("one character a line", SECRET.chars().map(|c| format!("{c}\n")).collect::<String>().into()),
        ("UTF-16", utf16),
    ];
    for (encoding, text) in cases {
        let text = [b"first line\nbefore ".as_slice(), &text, b" after\n"].concat();
        let hits = scanner(&[("OTHER", "another-secret-01"), ("KEY", SECRET)]).scan(&text);
        assert!(hits.iter().any(|hit| hit.name == "KEY" && hit.line == 2), "{encoding}: {hits:?}");
    }
}

#[test]
fn a_key_file_is_found_by_a_single_line_of_it() {
    let line = |seed: u8| {
        (0..64).map(|i| char::from(b'A' + (seed.wrapping_mul(7) + i * 3) % 26)).collect::<String>()
    };
    let lines: Vec<String> = (0..5).map(|seed| format!("{}{seed}", &line(seed)[..63])).collect();
    let key = format!("-----BEGIN KEY-----\n{}\n-----END KEY-----\n", lines.join("\n"));
    assert!(found(&key, key.replace('\n', "\\n")));
    assert!(found(&key, format!("only = '{}'", lines[2])));
    assert!(!found(&key, "-----BEGIN KEY-----"));
}

#[test]
fn addresses_in_a_credential_document_are_no_secrets() {
    let document = r#"{"token_uri": "https://oauth2.googleapis.com/token/v1/project12345",
        "client_email": "robot@project-123456.iam.gserviceaccount.com", "id": "0123456789abcdef0123456789abcdef"}"#;
    assert!(!found(document, "https://oauth2.googleapis.com/token/v1/project12345"));
    assert!(!found(document, "robot@project-123456.iam.gserviceaccount.com"));
    assert!(found(document, "0123456789abcdef0123456789abcdef"));
}

#[test]
fn short_and_symbolic_secrets() {
    assert!(!found("1234567", "1234567"), "too short to be looked for");
    assert!(found("12345678", "x12345678"));
    assert!(found("!§$%&/()=?", "'!§$%&/()=?'"));
    assert!(!found("!§$%&/()=?", "'!§$%&/()?='"));
}

#[test]
fn the_document_has_no_secret_in_it() {
    let prints = SecretPrints::new(SALT, [("KEY", SECRET)]);
    let document = serde_json::to_string(&prints).unwrap();
    assert!(!found(SECRET, &document));
    assert_eq!(serde_json::from_str::<SecretPrints>(&document).unwrap(), prints);
}

#[test]
fn a_broken_document_is_refused() {
    let prints = SecretPrints::new(SALT, [("KEY", SECRET)]);
    let broken = SecretPrints { version: 2, ..prints.clone() };
    assert_eq!(Scanner::new(&broken).unwrap_err(), InvalidPrints::Version(2));
    let broken = SecretPrints { salt: "zz".into(), ..prints.clone() };
    assert_eq!(Scanner::new(&broken).unwrap_err(), InvalidPrints::Digits);
    let mut broken = prints;
    broken.secrets[0].patterns[0].length = 0;
    assert_eq!(Scanner::new(&broken).unwrap_err(), InvalidPrints::Empty);
}

/// Examples are put together here, so that no scanner takes this file for a leak.
fn examples() -> Vec<(&'static str, String)> {
    let many = |text: &str, times: usize| text.repeat(times);
    vec![
        ("GitHub token", format!("ghp{}{}", "_", many("a1B2", 9))),
        ("GitHub token", format!("github{}{}", "_pat_", many("aB", 41))),
        ("GitHub installation token", format!("ghs{}12_{}.{}", "_", many("e", 30), many("f", 30))),
        ("Anthropic key", format!("sk-{}-api03-{}", "ant", many("x9", 20))),
        ("OpenAI key", format!("sk-{}{}{}FJ{}", "proj-", many("a", 20), "T3Blbk", many("b", 20))),
        ("AWS access key id", format!("AK{}{}", "IA", many("Q7", 8))),
        ("Slack token", format!("xox{}-{}", "b", many("12", 12))),
        ("Slack webhook", format!("https://hooks.slack{}T1/B2/{}", ".com/services/", many("x", 24))),
        ("Google API key", format!("AI{}{}", "za", many("a", 35))),
        ("GitLab token", format!("gl{}-{}", "pat", many("a", 20))),
        ("npm token", format!("np{}_{}", "m", many("a", 36))),
        ("PyPI token", format!("pypi-AgEIcHlwaS5v{}{}", "cmc", many("a", 60))),
        ("Stripe key", format!("sk{}{}", "_live_", many("a", 24))),
        ("Vault token", format!("hv{}.{}", "s", many("a", 24))),
        ("Plane key", format!("plane{}{}", "_api_", many("a", 32))),
        ("Docker token", format!("dckr{}{}", "_pat_", many("a", 27))),
        ("DigitalOcean token", format!("dop{}{}", "_v1_", many("a", 64))),
        ("private key", format!("-----BEGIN {} KEY-----", "RSA PRIVATE")),
        ("private key", format!("-----BEGIN {} KEY BLOCK-----", "PGP PRIVATE")),
        ("age key", format!("AGE-SECRET-{}-1{}", "KEY", many("Q", 58))),
        ("JSON Web Token", format!("ey{}.ey{}.{}", many("Ja", 10), many("Jb", 10), many("c", 30))),
    ]
}

#[test]
fn every_shape_is_recognised() {
    for (shape, example) in examples() {
        let text = format!("let x = \"{example}\";");
        let found: Vec<_> = tokens(text.as_bytes()).iter().map(|token| (token.shape, token.at)).collect();
        assert!(found.iter().any(|(name, at)| *name == shape && *at >= 9), "{shape}: {found:?}");
    }
    let covered: std::collections::BTreeSet<_> = examples().iter().map(|(shape, _)| *shape).collect();
    assert_eq!(covered.len(), shapes::count());
}

#[test]
fn documentation_examples_and_lookalikes_are_no_tokens() {
    for text in [
        format!("AK{}IOSFODNN7EXAMPLE", "IA"),
        "-----BEGIN PUBLIC KEY-----".into(),
        "-----BEGIN CERTIFICATE-----".into(),
        "task-antarctic-expedition-planning-board".into(),
        "ghp_short".into(),
        "sk-learn-is-a-library-with-a-long-name-in-python".into(),
        "sha512-z8d0m5b2O9McPEK1xHG/dWgUBT6EfBDz6wA0F7xSPTA5xSPTA5xSPTA5xSPTA5==".into(),
    ] {
        assert_eq!(tokens(text.as_bytes()), [], "{text}");
    }
}

proptest! {
    #[test]
    fn any_encoding_of_any_secret_is_found(
        secret in "[ -~]{16,80}", before in "[ -~]{0,9}", after in "[ -~]{0,9}", encoding in 0..6,
    ) {
        let secret = secret.trim();
        prop_assume!(secret.bytes().filter(u8::is_ascii_alphanumeric).count() >= 12);
        let around = format!("{before}{secret}{after}");
        let text = match encoding {
            0 => around,
            1 => STANDARD.encode(around),
            2 => URL_SAFE_NO_PAD.encode(around),
            3 => hex::encode(around),
            4 => serde_json::to_string(&around).unwrap(),
            _ => around.bytes().map(|b| format!("%{b:02X}")).collect(),
        };
        prop_assert!(found(secret, &text), "{text}");
    }

    #[test]
    fn nothing_is_found_where_nothing_is(text in prop::collection::vec(any::<u8>(), 0..4000)) {
        prop_assert_eq!(scanner(&[("KEY", SECRET), ("OTHER", "0123456789abcdef")]).scan(&text), []);
        prop_assert_eq!(tokens(&text), []);
    }
}
