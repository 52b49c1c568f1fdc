//! `kube-credential` against an endpoint in the place of the runner's: what it prints, and what it says
//! when there is no token.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/site.rs"]
mod site;

use std::collections::BTreeMap;
use std::process::Output;

use axum::Router;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use site::{Site, text};

/// Gives a token with what it was asked for, as long as the request's own token is right.
async fn token(Query(query): Query<BTreeMap<String, String>>, headers: HeaderMap) -> (StatusCode, String) {
    if headers["authorization"] != "Bearer request-token" {
        return (StatusCode::UNAUTHORIZED, r#"{"message": "canary-of-the-answer"}"#.to_owned());
    }
    let claims = json!({"aud": query["audience"], "version": query["api-version"], "exp": 1_790_000_000});
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
    (StatusCode::OK, json!({"count": 1, "value": token}).to_string())
}

async fn endpoint() -> String {
    let router = Router::new()
        .route("/token", get(token))
        .route("/page", get(|| async { r#"{"value": "<html>canary-of-the-answer"}"# }))
        .route("/moved", get(|| async { axum::response::Redirect::temporary("/token") }))
        .route("/broken", get(|| async { StatusCode::BAD_GATEWAY }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

async fn ask(url: &str, token: &str, arguments: &[&str]) -> Output {
    let site = Site::new("true", 1);
    let mut command = site.command(&[&["kube-credential"], arguments].concat());
    command
        .env("GITHUB_ACTIONS", "true")
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", url)
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token)
        .env("GITHUB_OUTPUT", site.path("outputs"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(!site.path("outputs").exists(), "a token is no output of the step");
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_the_jobs_token_for_the_audience() {
    let url = format!("{}/token?api-version=2.0", endpoint().await);
    for (arguments, audience) in [
        ([].as_slice(), "astra-dispatch"),
        (&["--audience", "https://one.example.com/a&b"], "https://one.example.com/a&b"),
    ] {
        let output = ask(&url, "request-token", arguments).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let credential: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(credential["apiVersion"], "client.authentication.k8s.io/v1");
        assert_eq!(credential["kind"], "ExecCredential");
        assert_eq!(credential["status"]["expirationTimestamp"], "2026-09-21T14:13:20Z");
        let token = credential["status"]["token"].as_str().unwrap();
        assert_eq!(text(&output.stderr), format!("::add-mask::{token}\n"), "the runner hides it");
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["aud"], &claims["version"]), (&json!(audience), &json!("2.0")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_it_says_why_and_prints_nothing() {
    let base = endpoint().await;
    let at = |path: &str| format!("{base}/{path}?api-version=2.0");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (url, token, code, cause, remedy) in [
        (String::new(), "", 2, "not in a GitHub workflow that may", "permissions: {id-token: write}"),
        (at("token"), "", 2, "not in a GitHub workflow that may", "permissions: {id-token: write}"),
        ("http://example.com/token".into(), "x", 2, "tokens are sent by https only", ""),
        ("none".into(), "x", 2, "this is no address", ""),
        (at("token"), "wrong", 1, "got no identity token (status 401)", "run it within the job"),
        (at("moved"), "request-token", 1, "got no identity token (status 307)", ""),
        (
            at("page"),
            "request-token",
            1,
            "got as its identity token is none",
            "GitHub gives a JSON Web Token",
        ),
        (at("broken"), "request-token", 75, "got no identity token (status 502)", "nothing was lost"),
        (format!("http://{closed}/token"), "x", 75, "cannot be reached: ", "nothing was lost"),
    ] {
        let output = ask(&url, token, &[]).await;
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{url}: {said}");
        assert!(said.contains(cause) && said.contains(" help: ") && said.contains(remedy), "{url}: {said}");
        assert!(!said.contains("request-token") && !said.contains("canary-of"), "{said}");
        assert_eq!(text(&output.stdout), "");
    }
    let output = ask(&at("token"), "request-token", &["--audience", ""]).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
