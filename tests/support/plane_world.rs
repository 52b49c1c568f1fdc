//! A Plane as it was recorded, and the program beside it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "helpers of tests")]

use serde_json::{Value, json};

use super::plane_fake::{KEY, PlaneFake, Project, World};
use super::site::{self, Site};

pub const PROJECT: &str = "30b3e760-81ab-4c95-a0fe-f21adc376851";
pub const ITEM: &str = "0991cb3a-9c94-46c4-91ca-f0afff605496";

pub fn recording(name: &str) -> Value {
    let path = format!("{}/fixtures/plane-rest/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn body(name: &str) -> Value {
    recording(name)["response"]["body"].clone()
}

pub fn rows(name: &str) -> Vec<Value> {
    body(name)["results"].as_array().unwrap().clone()
}

/// The recorded project with its states, labels and first item.
pub fn recorded_world() -> World {
    let mut item = body("54-issue-get");
    item["external_source"] = json!("github");
    item["external_id"] = json!("1234");
    let mut labels = rows("23-labels-list");
    labels.push(body("22-label-patch"));
    let project = Project {
        row: body("13-project-get"),
        states: rows("20-states-list"),
        labels,
        members: body("16-project-members").as_array().unwrap().clone(),
        items: vec![item],
        links: [(ITEM.to_owned(), rows("63-links-list"))].into(),
        comments: [(ITEM.to_owned(), vec![body("42-comment-create-external-bot")])].into(),
    };
    World { projects: [(PROJECT.to_owned(), project)].into(), ..World::default() }
}

/// The recorded world, whose first item now asks for a coder and has another title.
pub fn wanted_world() -> World {
    let mut world = recorded_world();
    let rows = world.projects.get_mut(PROJECT).unwrap();
    let coder = rows.labels.iter().find(|label| label["name"] == "agent:coder").unwrap()["id"].clone();
    rows.items[0]["labels"] = json!([coder]);
    rows.items[0]["name"] = json!("Renamed in Plane");
    world
}

/// The program with a key for the stand-in, on this machine.
pub async fn with_plane(site: &Site, fake: &PlaneFake, arguments: &[&str]) -> Value {
    let mut program = tokio::process::Command::from(site.command(arguments));
    program.envs([("PLANE_API_KEY", KEY), ("PLANE_BASE_URL", &fake.url)]);
    let output = program.output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", site::text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
