use std::sync::Arc;
use std::sync::Mutex as StdMutex;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use jsonwebtoken::{DecodingKey, Validation};

use super::*;

const KEY: &str = include_str!("../../../../fixtures/github-app/private-key.pem");
const PUBLIC_KEY: &[u8] = include_bytes!("../../../../fixtures/github-app/public-key.pem");

/// What a stand-in for GitHub was asked, and what it answers.
struct Fake {
    asked: StdMutex<Vec<Value>>,
    valid_for: i64,
    grant: Value,
}

async fn github(valid_for: i64, grant: Value) -> (GitHub, Arc<Fake>) {
    let fake = Arc::new(Fake { asked: StdMutex::default(), valid_for, grant });
    let router = Router::new()
        .route(
            "/repos/astra/ops/installation",
            get(async |headers: HeaderMap| {
                verify(&headers);
                Json(json!({"id": 7}))
            }),
        )
        .route("/app/installations/7/access_tokens", post(mint))
        .with_state(Arc::clone(&fake));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (GitHub::new(&format!("http://{address}")).unwrap(), fake)
}

async fn mint(
    State(fake): State<Arc<Fake>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (http::StatusCode, Json<Value>) {
    verify(&headers);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut asked = fake.asked.lock().unwrap();
    asked.push(body);
    let expires_at = Timestamp::now() + Duration::from_secs(u64::try_from(fake.valid_for).unwrap());
    let token = format!("ghs_{}", asked.len());
    let answer = json!({"token": token, "expires_at": expires_at, "permissions": fake.grant});
    (http::StatusCode::CREATED, Json(answer))
}

fn verify(headers: &HeaderMap) {
    let token = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&["1234"]);
    let key = DecodingKey::from_rsa_pem(PUBLIC_KEY).unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims;
    let (from, until) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    let now = Timestamp::now().as_second();
    assert!(from < now && until > now && until - from <= 600, "{claims}");
}

fn app() -> Tokens {
    Tokens::App(Box::new(App::new("1234", &SecretString::from(KEY)).unwrap()))
}

fn contents() -> Permissions {
    Permissions::from([("contents", "write")])
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_narrow_token() {
    let (github, fake) = github(3600, json!({"contents": "write", "metadata": "read"})).await;
    let (tokens, repository, permissions) = (app(), "astra/ops".parse().unwrap(), contents());
    let calls = (0..10).map(|_| tokens.token(&github, &repository, &permissions));
    for token in futures_util::future::join_all(calls).await {
        assert_eq!(token.unwrap().expose_secret(), "ghs_1");
    }
    let expected = json!({"repositories": ["ops"], "permissions": {"contents": "write"}});
    assert_eq!(*fake.asked.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn a_token_is_minted_anew_when_it_ends_soon_or_is_rejected() {
    let permissions = contents();
    for (valid_for, forget, mints) in [(299, false, 2), (400, false, 1), (3600, true, 2)] {
        let (github, fake) = github(valid_for, json!({"contents": "write"})).await;
        let (tokens, repository) = (app(), "astra/ops".parse().unwrap());
        let first = tokens.token(&github, &repository, &permissions).await.unwrap();
        if forget {
            tokens.forget(&first).await;
        }
        tokens.token(&github, &repository, &permissions).await.unwrap();
        assert_eq!(fake.asked.lock().unwrap().len(), mints, "{valid_for}");
    }
}

#[tokio::test]
async fn a_token_that_may_do_less_is_no_token() {
    let (github, _) = github(3600, json!({"metadata": "read"})).await;
    let token = app().token(&github, &"astra/ops".parse().unwrap(), &contents()).await;
    assert_eq!(token.unwrap_err(), GitHubFault::NotAllowed);
    let elsewhere = app().token(&github, &"astra/other".parse().unwrap(), &contents()).await;
    assert_eq!(elsewhere.unwrap_err(), GitHubFault::NotFound);
}

#[test]
fn a_key_that_is_none_says_so_without_showing_it() {
    let Err(error) = App::new("1", &SecretString::from("no key")) else { panic!("it was taken") };
    assert_eq!(error.place.as_deref(), Some("ASTRA_APP_PRIVATE_KEY"));
    assert!(!error.to_string().contains("no key"));
}
