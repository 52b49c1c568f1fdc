//! A stand-in for Plane over HTTP, with state. It answers as Plane 1.3.1 was recorded to answer:
//! `tests/plane.rs` replays the recordings of `fixtures/plane-rest` against it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// The key that the stand-in accepts.
pub const KEY: &str = "plane_api_0123456789abcdef0123456789abcdef";
const WORKSPACE: &str = "astra";

/// A running stand-in. It ends with the test's runtime.
pub struct PlaneFake {
    pub url: String,
    world: Arc<Mutex<World>>,
}

/// What the stand-in knows.
#[derive(Default)]
pub struct World {
    pub projects: BTreeMap<String, Project>,
    /// Every request, `METHOD path`, in order.
    pub requests: Vec<String>,
    /// What goes wrong next, one request each.
    pub faults: Vec<Fault>,
    pub clock: u64,
}

#[derive(Default)]
pub struct Project {
    pub row: Value,
    pub states: Vec<Value>,
    pub labels: Vec<Value>,
    pub members: Vec<Value>,
    pub items: Vec<Value>,
    /// By item.
    pub comments: BTreeMap<String, Vec<Value>>,
    pub links: BTreeMap<String, Vec<Value>>,
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers so, and does nothing.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Does what was asked, and answers with 502.
    ActThenFail,
}

struct Call {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    body: Result<Value, ()>,
}

type Reply = (u16, Value);

impl PlaneFake {
    /// Starts a stand-in on a port of its own.
    pub async fn start(world: World) -> Self {
        let world = Arc::new(Mutex::new(world));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(handle).with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, world }
    }

    /// Looks at, or changes, what the stand-in knows.
    pub fn world<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.lock().unwrap())
    }
}

async fn handle(State(world): State<Arc<Mutex<World>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 5_242_880).await.unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let fault = {
        let mut world = world.lock().unwrap();
        world.requests.push(format!("{} {path}", parts.method));
        (!world.faults.is_empty()).then(|| world.faults.remove(0))
    };
    if let Some(Fault::Answer(status, headers, text)) = &fault {
        return raw(*status, headers, text.clone());
    }
    if !path.ends_with('/') {
        return raw(
            301,
            &[("location", format!("{path}/")), ("content-type", "text/html".into())],
            String::new(),
        );
    }
    if let Some(refused) = refuse_key(&parts.headers) {
        return respond(refused);
    }
    let query = parts.uri.query().unwrap_or_default();
    let call = Call {
        method: parts.method.to_string(),
        path,
        query: serde_urlencoded_pairs(query),
        body: read_body(&parts.headers, &bytes),
    };
    let reply = {
        let mut world = world.lock().unwrap();
        world.clock += 1;
        world.answer(&call, &parts.headers)
    };
    match fault {
        Some(Fault::ActThenFail) => {
            raw(502, &[("content-type", "text/html".into())], "<html>bad gateway</html>".into())
        }
        _ => respond(reply),
    }
}

fn refuse_key(headers: &HeaderMap) -> Option<Reply> {
    match headers.get("x-api-key") {
        None => Some((401, json!({"detail": "Authentication credentials were not provided."}))),
        Some(key) if key != KEY => Some((403, json!({"detail": "Given API token is not valid"}))),
        Some(_) => None,
    }
}

fn read_body(headers: &HeaderMap, bytes: &Bytes) -> Result<Value, ()> {
    let is_json = headers.get("content-type").is_none_or(|kind| kind.to_str().unwrap().contains("json"));
    if bytes.is_empty() || !is_json {
        return Ok(json!({}));
    }
    serde_json::from_slice(bytes).map_err(|_| ())
}

fn serde_urlencoded_pairs(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (name.to_owned(), value.replace("%2C", ",").replace("%3A", ":").replace('+', " "))
        })
        .collect()
}

fn respond((status, body): Reply) -> Response {
    let headers =
        [("content-type", "application/json".to_owned()), ("x-ratelimit-remaining", "59".to_owned())];
    raw(status, &headers, if status == 204 { String::new() } else { body.to_string() })
}

fn raw(status: u16, headers: &[(&'static str, String)], body: String) -> Response {
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    response.headers_mut().remove("content-type");
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

fn not_found() -> Reply {
    (404, json!({"error": "The requested resource does not exist."}))
}

fn no_right() -> Reply {
    (403, json!({"detail": "You do not have permission to perform this action."}))
}

impl World {
    fn answer(&mut self, call: &Call, headers: &HeaderMap) -> Reply {
        let path = call.path.trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        let ["api", "v1", "workspaces", workspace, rest @ ..] = parts.as_slice() else { return not_found() };
        if *workspace != WORKSPACE {
            return no_right();
        }
        let is_write = matches!(call.method.as_str(), "POST" | "PATCH");
        if is_write
            && headers.get("content-type").is_some_and(|kind| !kind.to_str().unwrap().contains("json"))
        {
            return (415, json!({"detail": "Unsupported media type"}));
        }
        if call.body.is_err() {
            return (400, json!({"detail": "JSON parse error"}));
        }
        let now = format!("2026-11-23T02:00:00.{:06}Z", self.clock);
        match rest {
            ["projects"] => page(self.projects.values().map(|project| project.row.clone()).collect(), call),
            ["work-items" | "issues", key] => self.by_key(key, call),
            ["projects", project, rest @ ..] => match (self.projects.get_mut(*project), rest) {
                (Some(project), rest) => project.answer(rest, call, &now),
                (None, []) if project.parse::<uuid::Uuid>().is_ok() => not_found(),
                (None, _) if project.parse::<uuid::Uuid>().is_ok() => no_right(),
                (None, _) => (404, json!({"error": "Page not found."})),
            },
            _ => not_found(),
        }
    }

    fn by_key(&self, key: &str, call: &Call) -> Reply {
        let found = key.split_once('-').and_then(|(identifier, sequence)| {
            let project = self.projects.values().find(|project| project.row["identifier"] == identifier)?;
            let sequence: u64 = sequence.parse().ok()?;
            let item = project.items.iter().find(|item| item["sequence_id"] == sequence)?;
            Some(project.shown(item, call))
        });
        found.map_or_else(not_found, |item| (200, item))
    }
}

impl Project {
    fn answer(&mut self, path: &[&str], call: &Call, now: &str) -> Reply {
        match (call.method.as_str(), path) {
            ("GET", []) => (200, self.row.clone()),
            ("GET", ["states"]) => page(self.states.clone(), call),
            ("GET", ["states", id]) => find(&self.states, id),
            ("GET", ["labels"]) => page(self.labels.clone(), call),
            ("GET", ["labels", id]) => find(&self.labels, id),
            ("POST", ["labels"]) => self.create_label(call),
            ("GET", ["work-items" | "issues"]) => self.list_items(call),
            (method, ["work-items" | "issues", item, rest @ ..]) => {
                let Some(place) = self.items.iter().position(|row| row["id"] == **item) else {
                    return not_found();
                };
                match (method, rest) {
                    ("GET", []) => (200, self.shown(&self.items[place], call)),
                    ("PATCH", []) => self.patch_item(place, call, now),
                    ("GET" | "POST" | "PATCH", ["comments", ..]) => self.comment(item, &rest[1..], call, now),
                    ("GET" | "POST", ["links"]) => self.link(item, call),
                    _ => (405, json!({"detail": format!("Method \"{method}\" not allowed.")})),
                }
            }
            _ => not_found(),
        }
    }

    fn create_label(&mut self, call: &Call) -> Reply {
        let name = &call.body.as_ref().unwrap()["name"];
        match self.labels.iter().find(|label| label["name"] == *name) {
            Some(label) => (
                409,
                json!({"error": "Label with the same name already exists in the project", "id": label["id"]}),
            ),
            None => (400, json!({"name": ["the stand-in makes no labels"]})),
        }
    }

    fn list_items(&self, call: &Call) -> Reply {
        if call.query.get("order_by").is_some_and(|column| !column.trim_start_matches('-').ends_with("_at")) {
            return (500, json!({"error": "Something went wrong please try again later"}));
        }
        if let (Some(id), Some(source)) = (call.query.get("external_id"), call.query.get("external_source")) {
            let found = self.items.iter().find(|item| {
                item["external_id"] == id.as_str() && item["external_source"] == source.as_str()
            });
            return found.map_or_else(not_found, |item| (200, self.shown(item, call)));
        }
        page(self.items.iter().map(|item| self.shown(item, call)).collect(), call)
    }

    fn patch_item(&mut self, place: usize, call: &Call, now: &str) -> Reply {
        let changes = call.body.clone().unwrap();
        if let Some(fault) = self.fault_in(&changes) {
            return (400, fault);
        }
        let item = &mut self.items[place];
        for (name, value) in changes.as_object().unwrap() {
            item[name] = value.clone();
        }
        item["updated_at"] = json!(now);
        (200, item.clone())
    }

    fn fault_in(&self, changes: &Value) -> Option<Value> {
        let id = |value: &Value| value.as_str().unwrap_or_default().parse::<uuid::Uuid>().is_ok();
        let has = |rows: &[Value], wanted: &Value| rows.iter().any(|row| row["id"] == *wanted);
        if let Some(state) = changes.get("state") {
            if !id(state) {
                return Some(json!({"state": [format!("“{state}” is not a valid UUID.")]}));
            }
            if !has(&self.states, state) {
                return Some(
                    json!({"non_field_errors": ["State is not valid please pass a valid state_id"]}),
                );
            }
        }
        for label in changes.get("labels").and_then(Value::as_array).into_iter().flatten() {
            if !id(label) || !has(&self.labels, label) {
                return Some(json!({"labels": {"0": ["not valid"]}}));
            }
        }
        None
    }

    fn comment(&mut self, item: &str, path: &[&str], call: &Call, now: &str) -> Reply {
        let comments = self.comments.entry(item.to_owned()).or_default();
        let body = call.body.clone().unwrap();
        match (call.method.as_str(), path) {
            // Only the list says whether the author is a member.
            ("GET", []) => {
                let shown = comments.iter().cloned().map(|mut row| {
                    row["is_member"] = json!(true);
                    row
                });
                page(shown.collect(), call)
            }
            ("POST", []) => {
                let same = |row: &&Value| {
                    !body["external_id"].is_null()
                        && row["external_id"] == body["external_id"]
                        && row["external_source"] == body["external_source"]
                };
                if let Some(existing) = comments.iter().find(same) {
                    let error =
                        "Work item comment with the same external id and external source already exists";
                    return (409, json!({"error": error, "id": existing["id"]}));
                }
                let mut row = json!({
                    "id": uuid::Uuid::from_u128(comments.len() as u128 + 1), "created_at": now, "updated_at": now,
                    "deleted_at": null, "comment_html": "<p></p>", "attachments": [], "access": "INTERNAL",
                    "external_source": null, "external_id": null, "edited_at": null, "parent": null,
                    "project": self.row["id"], "workspace": self.row["workspace"], "issue": item,
                    "created_by": null, "updated_by": null, "actor": null, "description": null,
                });
                merge(&mut row, &body);
                comments.push(row.clone());
                (201, row)
            }
            ("PATCH", [id]) => match comments.iter_mut().find(|row| row["id"] == **id) {
                Some(row) => {
                    merge(row, &body);
                    row["edited_at"] = json!(now);
                    (200, row.clone())
                }
                None => not_found(),
            },
            _ => not_found(),
        }
    }

    fn link(&mut self, item: &str, call: &Call) -> Reply {
        let links = self.links.entry(item.to_owned()).or_default();
        let body = call.body.clone().unwrap();
        let url = body["url"].as_str().unwrap_or_default();
        match call.method.as_str() {
            "GET" => page(links.clone(), call),
            _ if !url.contains("://") => (400, json!({"url": ["Invalid URL format."]})),
            _ if links.iter().any(|link| link["url"] == url) => {
                (400, json!({"error": "URL already exists for this Issue"}))
            }
            _ => {
                let mut row = json!({
                    "id": uuid::Uuid::from_u128(links.len() as u128 + 1), "title": null, "url": null, "metadata": {},
                    "created_at": "2026-11-23T02:00:00Z", "updated_at": "2026-11-23T02:00:00Z", "deleted_at": null,
                    "created_by": null, "updated_by": null, "project": self.row["id"],
                    "workspace": self.row["workspace"], "issue": item,
                });
                merge(&mut row, &body);
                links.push(row.clone());
                (201, row)
            }
        }
    }

    /// An item as `fields` and `expand` ask for it.
    fn shown(&self, item: &Value, call: &Call) -> Value {
        let mut row = item.as_object().unwrap().clone();
        let expand = call.query.get("expand").map(String::as_str).unwrap_or_default();
        for name in expand.split(',') {
            match name {
                "state" => {
                    row["state"] = row_of(&self.states, &row["state"], &["id", "name", "color", "group"])
                }
                "labels" => row["labels"] = rows_of(&self.labels, &row["labels"], &[]),
                "assignees" => row["assignees"] = rows_of(&self.members, &row["assignees"], &[]),
                _ => {}
            }
        }
        if let Some(fields) = call.query.get("fields") {
            row.retain(|name, _| fields.split(',').any(|field| field == name));
        }
        Value::Object(row)
    }
}

fn merge(row: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().unwrap() {
        row[name] = value.clone();
    }
}

fn find(rows: &[Value], id: &str) -> Reply {
    rows.iter().find(|row| row["id"] == id).map_or_else(not_found, |row| (200, row.clone()))
}

fn row_of(rows: &[Value], id: &Value, keys: &[&str]) -> Value {
    let row =
        rows.iter().find(|row| row["id"] == *id).and_then(Value::as_object).cloned().unwrap_or_default();
    Value::Object(
        row.into_iter()
            .filter(|(name, _)| keys.is_empty() || keys.contains(&name.as_str()))
            .collect::<Map<_, _>>(),
    )
}

fn rows_of(rows: &[Value], ids: &Value, keys: &[&str]) -> Value {
    ids.as_array().into_iter().flatten().map(|id| row_of(rows, id, keys)).collect()
}

fn page(rows: Vec<Value>, call: &Call) -> Reply {
    let per_page = match call.query.get("per_page").map(|text| text.parse::<usize>()) {
        None => 1000,
        Some(Ok(size)) if size <= 1000 => size,
        Some(Ok(_)) => return (400, json!({"detail": "Invalid per_page value. Cannot exceed 1000."})),
        Some(Err(_)) => return (400, json!({"detail": "Invalid per_page parameter."})),
    };
    let number =
        match call.query.get("cursor").map(|cursor| cursor.split(':').nth(1).and_then(|n| n.parse().ok())) {
            None => 0,
            Some(Some(number)) => number,
            Some(None) => return (400, json!({"detail": "Invalid cursor parameter."})),
        };
    let total = rows.len();
    let results: Vec<Value> = rows.into_iter().skip(per_page * number).take(per_page).collect();
    let more = per_page * (number + 1) < total;
    (
        200,
        json!({
            "grouped_by": null, "sub_grouped_by": null, "total_count": total, "total_results": total,
            "next_cursor": format!("{per_page}:{}:0", number + 1), "prev_cursor": format!("{per_page}:{}:1", number as i64 - 1),
            "next_page_results": more, "prev_page_results": number > 0, "count": results.len(),
            "total_pages": total.div_ceil(per_page.max(1)), "extra_stats": null, "results": results,
        }),
    )
}
