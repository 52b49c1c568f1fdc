//! What an answer of Plane's REST API means, and what to do about it.
//! Source of every rule: recorded exchanges with Plane 1.3.1 (`fixtures/plane-rest`).

use std::time::Duration;

use serde_json::Value;

/// How long to wait after a 429 that does not say.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The parts of an HTTP answer that matter.
#[derive(Debug, Clone, Default)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Retry-After`.
    pub retry_after: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// Why Plane did not do what was asked, by what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaneRefusal {
    /// 401: no key was sent.
    #[error("Plane wants an API key")]
    NoKey,
    /// 403 with Plane's own words for a wrong or expired key.
    #[error("Plane does not accept the API key")]
    BadKey,
    /// 403: the key's owner may not do this here, or the workspace or project does not exist.
    #[error("the owner of the API key has no right here, or there is no such workspace or project")]
    Forbidden,
    /// 404: no such object (any more).
    #[error("Plane has no such object")]
    NotFound,
    /// 409: an object with this name or external id exists already.
    #[error("Plane has such an object already")]
    Exists {
        /// The id of the existing object.
        id: Option<uuid::Uuid>,
    },
    /// 429.
    #[error("Plane's rate limit is used up for {} s", retry_after.as_secs())]
    RateLimited {
        /// How long to wait.
        retry_after: Duration,
    },
    /// 400, 405, 413, 415: the request itself was wrong.
    #[error("Plane refused the request ({status}): {words}")]
    Invalid {
        /// HTTP status.
        status: u16,
        /// Plane's words, cut.
        words: String,
    },
    /// 3xx: a proxy or a missing slash; following it would lose the body of a write.
    #[error("Plane's address redirects elsewhere ({status})")]
    Redirected {
        /// HTTP status.
        status: u16,
    },
    /// 5xx: Plane or a proxy before it is ill.
    #[error("Plane failed ({status})")]
    Broken {
        /// HTTP status.
        status: u16,
    },
    /// A page instead of JSON: probably not Plane's address, or a login page before it.
    #[error("the answer is no JSON: this does not seem to be Plane's API")]
    NotPlane,
}

impl PlaneRefusal {
    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoKey => "set PLANE_API_KEY",
            Self::BadKey => {
                "make a new API key in Plane (Profile settings, Personal access tokens) and set PLANE_API_KEY"
            }
            Self::Forbidden => {
                "make the key's owner a member of the project, and check `plane.workspace` and `projects` in astra.yaml"
            }
            Self::NotFound => "nothing: the object was deleted; check the key if you typed it",
            Self::Exists { .. } => "nothing: it is already there",
            Self::RateLimited { .. } | Self::Broken { .. } => "try again later; nothing was lost",
            Self::Invalid { .. } => {
                "report this: astra dispatch sent something that Plane does not understand"
            }
            Self::Redirected { .. } => {
                "set `plane.url` in astra.yaml (or PLANE_BASE_URL) to the address that it redirects to"
            }
            Self::NotPlane => "check `plane.url` in astra.yaml (or PLANE_BASE_URL)",
        }
    }

    /// Whether the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Broken { .. })
    }
}

/// Reads an answer: the JSON of a success (`Null` for 204), or why there is none.
pub fn read(answer: &Answer<'_>) -> Result<Value, PlaneRefusal> {
    let status = answer.status;
    if (300..400).contains(&status) {
        return Err(PlaneRefusal::Redirected { status });
    }
    if status >= 500 {
        return Err(PlaneRefusal::Broken { status });
    }
    if status == 429 {
        let seconds = answer.retry_after.and_then(|text| text.trim().parse().ok());
        return Err(PlaneRefusal::RateLimited {
            retry_after: seconds.map_or(DEFAULT_RETRY_AFTER, Duration::from_secs),
        });
    }
    if status == 204 {
        return Ok(Value::Null);
    }
    let is_json = answer.content_type.is_none_or(|kind| kind.contains("json"));
    let body: Value = match serde_json::from_slice(answer.body) {
        Ok(body) if is_json => body,
        _ => return Err(PlaneRefusal::NotPlane),
    };
    match status {
        200..=299 => Ok(body),
        401 => Err(PlaneRefusal::NoKey),
        403 if is_about_the_key(&body) => Err(PlaneRefusal::BadKey),
        403 => Err(PlaneRefusal::Forbidden),
        404 => Err(PlaneRefusal::NotFound),
        409 => Err(PlaneRefusal::Exists { id: id_of(&body) }),
        _ => Err(PlaneRefusal::Invalid { status, words: words_of(&body) }),
    }
}

/// Plane answers a wrong key with 403, as it does a missing right: only the words differ.
fn is_about_the_key(body: &Value) -> bool {
    body.get("detail").and_then(Value::as_str).is_some_and(|detail| detail.contains("API token is not valid"))
}

fn id_of(body: &Value) -> Option<uuid::Uuid> {
    body.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok())
}

/// Plane's words about a wrong request: every shape of its error bodies is an object of texts.
fn words_of(body: &Value) -> String {
    const LONGEST: usize = 300;
    body.to_string().chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<Value, PlaneRefusal> {
        read(&Answer {
            status,
            content_type: Some("application/json"),
            retry_after: None,
            body: body.as_bytes(),
        })
    }

    #[test]
    fn every_answer_has_one_meaning() {
        assert_eq!(answer(200, "{}"), Ok(serde_json::json!({})));
        assert_eq!(answer(204, ""), Ok(Value::Null));
        assert_eq!(answer(301, ""), Err(PlaneRefusal::Redirected { status: 301 }));
        assert_eq!(answer(401, "{}"), Err(PlaneRefusal::NoKey));
        assert_eq!(answer(403, r#"{"detail":"Given API token is not valid"}"#), Err(PlaneRefusal::BadKey));
        assert_eq!(answer(403, r#"{"detail":"You do not have permission"}"#), Err(PlaneRefusal::Forbidden));
        assert_eq!(answer(404, "{}"), Err(PlaneRefusal::NotFound));
        assert_eq!(answer(409, r#"{"error":"x"}"#), Err(PlaneRefusal::Exists { id: None }));
        assert_eq!(answer(500, "<html>"), Err(PlaneRefusal::Broken { status: 500 }));
        assert_eq!(answer(200, "<html>"), Err(PlaneRefusal::NotPlane));
        assert_eq!(
            answer(400, r#"{"state":["no"]}"#),
            Err(PlaneRefusal::Invalid { status: 400, words: r#"{"state":["no"]}"#.to_owned() })
        );
        let page = Answer { status: 200, content_type: Some("text/html"), body: b"{}", ..Answer::default() };
        assert_eq!(read(&page), Err(PlaneRefusal::NotPlane));
        let busy = Answer { status: 429, retry_after: Some("58"), ..Answer::default() };
        assert_eq!(read(&busy), Err(PlaneRefusal::RateLimited { retry_after: Duration::from_secs(58) }));
    }
}
