//! A model API on loopback that speaks as much of Anthropic's Messages API and of OpenAI's Responses
//! API as the CLIs ask for: it answers by script and remembers what it was sent.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    reason = "a module of several test programs, each using its part"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// One answer. Each reports 1000 tokens in and 100 out, but [`Answer::Dear`].
#[derive(Debug, Clone)]
pub enum Answer {
    /// The model has nothing more to do.
    Text(&'static str),
    /// The model calls a tool.
    Tool(&'static str, Value),
    /// The same, and has used 100,000 tokens in and 10,000 out.
    Dear(&'static str, Value),
    /// An error with this status.
    Error(u16, &'static str),
    /// No answer.
    Silence,
}

/// One request to the API.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Request {
    /// The text of the system prompt.
    pub fn system(&self) -> String {
        texts(&self.body["system"])
    }

    /// The text of the first message.
    pub fn first_message(&self) -> String {
        texts(&self.body["messages"][0]["content"])
    }

    /// The names of the tools on offer, sorted.
    pub fn tools(&self) -> Vec<String> {
        let tools = self.body["tools"].as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> =
            tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        names
    }
}

fn texts(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// The running API.
pub struct ModelApi {
    pub url: String,
    shared: Arc<Mutex<Shared>>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    script: VecDeque<Answer>,
    requests: Vec<Request>,
}

impl ModelApi {
    /// Starts an API with these answers; the last one is given again and again.
    pub fn start(script: impl IntoIterator<Item = Answer>) -> Self {
        Self::start_at(std::net::Ipv4Addr::LOCALHOST.into(), script)
    }

    /// The same, at this address of the machine; 0.0.0.0 is each of them.
    pub fn start_at(address: std::net::IpAddr, script: impl IntoIterator<Item = Answer>) -> Self {
        let shared = Arc::new(Mutex::new(Shared { script: script.into_iter().collect(), requests: vec![] }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind((address, 0))).expect("listen");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { url, shared, _runtime: runtime }
    }

    /// The requests for an answer so far.
    pub fn requests(&self) -> Vec<Request> {
        let posts = |request: &&Request| request.method == Method::POST;
        self.shared.lock().expect("lock").requests.iter().filter(posts).cloned().collect()
    }

    /// Every request so far, of any kind.
    pub fn all_requests(&self) -> usize {
        self.shared.lock().expect("lock").requests.len()
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (next, number) = {
        let mut shared = shared.lock().expect("lock");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        shared.requests.push(Request { method: method.clone(), path: uri.path().to_owned(), headers, body });
        if method != Method::POST {
            return StatusCode::OK.into_response();
        }
        let next =
            if shared.script.len() > 1 { shared.script.pop_front() } else { shared.script.front().cloned() };
        (next.expect("a script"), shared.requests.len())
    };
    if uri.path().ends_with("/responses")
        && let Some(item) = responses_item(number, &next)
    {
        return responses_stream(number, &item);
    }
    match next {
        Answer::Text(text) => stream(number, &json!({"type": "text", "text": text}), (1000, 100)),
        Answer::Tool(name, input) => stream(number, &tool(number, name, &input), (1000, 100)),
        Answer::Dear(name, input) => stream(number, &tool(number, name, &input), (100_000, 10_000)),
        Answer::Silence => std::future::pending().await,
        Answer::Error(status, message) => {
            let body = json!({"type": "error", "error": {"type": "api_error", "message": message}});
            (
                StatusCode::from_u16(status).expect("status"),
                [(header::CONTENT_TYPE, "application/json"), (header::RETRY_AFTER, "0")],
                body.to_string(),
            )
                .into_response()
        }
    }
}

fn tool(number: usize, name: &str, input: &Value) -> Value {
    json!({"type": "tool_use", "id": format!("toolu_{number:04}"), "name": name, "input": input})
}

/// Server-sent events of one message with one content block.
/// Source: <https://docs.anthropic.com/en/docs/build-with-claude/streaming>.
fn stream(number: usize, block: &Value, (input, output): (u64, u64)) -> Response {
    let (start, delta, reason) = match block["type"].as_str() {
        Some("tool_use") => {
            let mut start = block.clone();
            start["input"] = json!({});
            (
                start,
                json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}),
                "tool_use",
            )
        }
        _ => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": block["text"]}),
            "end_turn",
        ),
    };
    let message = json!({
        "id": format!("msg_{number:04}"), "type": "message", "role": "assistant", "model": "claude-fake-1",
        "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": input, "output_tokens": 1},
    });
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
               "usage": {"output_tokens": output}}),
        json!({"type": "message_stop"}),
    ];
    let text: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
        .collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}

/// The output item of an answer in the Responses API; errors have the same form in both APIs.
fn responses_item(number: usize, answer: &Answer) -> Option<Value> {
    match answer {
        Answer::Text(text) => Some(json!({
            "type": "message", "id": format!("msg_{number:04}"), "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        })),
        Answer::Tool(name, input) | Answer::Dear(name, input) => Some(json!({
            "type": "function_call", "id": format!("fc_{number:04}"), "call_id": format!("call_{number:04}"),
            "name": name, "arguments": input.to_string(), "status": "completed",
        })),
        Answer::Error(..) | Answer::Silence => None,
    }
}

/// Source: <https://platform.openai.com/docs/api-reference/responses-streaming>.
fn responses_stream(number: usize, item: &Value) -> Response {
    let id = format!("resp_{number:04}");
    let events = [
        json!({"type": "response.created", "response": {"id": id, "object": "response", "status": "in_progress"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
        json!({"type": "response.completed", "response": {
            "id": id, "object": "response", "status": "completed", "output": [item],
            "usage": {"input_tokens": 1000, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 100,
                      "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1100},
        }}),
    ];
    let text: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default()))
        .collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}
