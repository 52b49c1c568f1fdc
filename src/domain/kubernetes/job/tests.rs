use std::collections::BTreeMap;

use super::*;
use crate::domain::kubernetes::pod::Step;
use crate::domain::registry::{RegistryStamp, RuntimeKind};
use crate::domain::run_plan::{ModelPlan, RuntimePlan};

fn limits() -> Limits {
    Limits {
        cpu: "2".into(),
        cpu_millis: 2000,
        memory: "4Gi".into(),
        memory_bytes: 4 << 30,
        time: Duration::from_secs(30 * 60),
        pending: Duration::from_secs(10 * 60),
    }
}

fn plan() -> RunPlan {
    RunPlan {
        runtime: RuntimePlan::ClaudeCode(ModelPlan {
            model: "claude-sonnet-5".into(),
            max_turns: Some(80),
            max_cost_usd: Some(5.0),
            tools: vec!["Bash".into()],
        }),
        credential_names: vec!["ANTHROPIC_API_KEY".into()],
        limits: limits(),
        registry: RegistryStamp { ordinal: 1_760_000_000, hash: "sha256:ab".into() },
        ..RunPlan::sample()
    }
}

fn runtime() -> Runtime {
    Runtime {
        kind: RuntimeKind::Command { command: vec!["work".into()] },
        image: Some("registry.example.com/agents/claude@sha256:aa".into()),
        writable_root: false,
        uid: 10001,
        pull_secret: None,
        runtime_class: None,
    }
}

fn input<'a>(plan: &'a RunPlan, runtime: &'a Runtime) -> JobInput<'a> {
    JobInput {
        plan,
        item: ItemId(uuid::Uuid::from_u128(1)),
        project: ProjectId(uuid::Uuid::from_u128(2)),
        attempt: 1,
        decision: "[]",
        subject: "{}",
        runtime,
        image: Some("registry.example.com/astra-dispatch@sha256:bb"),
    }
}

fn made() -> Job {
    job(&input(&plan(), &runtime())).unwrap()
}

#[test]
fn the_manifest() {
    insta::assert_snapshot!(serde_saphyr::to_string(&made()).unwrap());
}

#[test]
fn deadlines_stay_within_a_tokens_hour() {
    assert_eq!(pod_deadline(&limits()), Duration::from_secs(40 * 60));
    assert_eq!(job_deadline(&limits()), Duration::from_secs(50 * 60));
}

#[test]
fn what_the_agent_asks_for() {
    let runtime = Runtime {
        writable_root: true,
        uid: 2000,
        pull_secret: Some("pull".into()),
        runtime_class: Some("gvisor".into()),
        ..runtime()
    };
    let plan = plan();
    let spec = job(&input(&plan, &runtime)).unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "pull");
    assert_eq!(spec.runtime_class_name.as_deref(), Some("gvisor"));
    assert_eq!(spec.security_context.unwrap().fs_group, Some(2000));
    let writable: Vec<_> = spec
        .init_containers
        .unwrap()
        .into_iter()
        .chain(spec.containers)
        .filter(|container| {
            container.security_context.as_ref().unwrap().read_only_root_filesystem == Some(false)
        })
        .map(|container| container.name)
        .collect();
    assert_eq!(writable, ["agent"]);
}

#[test]
fn an_image_that_is_not_named_is_said() {
    let (plan, runtime) = (plan(), runtime());
    let without = JobInput { image: None, ..input(&plan, &runtime) };
    assert_eq!(job(&without), Err(MissingImage::Own));
    let runtime = Runtime { image: None, ..runtime };
    assert_eq!(job(&input(&plan, &runtime)), Err(MissingImage::Agent));
}

/// Who can see what, read from the manifest itself.
#[test]
fn steps_are_separated_by_their_mounts() {
    let spec = made().spec.unwrap().template.spec.unwrap();
    let containers: Vec<_> = spec.init_containers.unwrap().into_iter().chain(spec.containers).collect();
    assert_eq!(
        containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>(),
        Step::ALL.map(Step::name)
    );
    let secret_volumes: Vec<_> = spec
        .volumes
        .unwrap()
        .into_iter()
        .filter(|volume| volume.secret.is_some())
        .map(|volume| volume.name)
        .collect();
    let mut secret_users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut writers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in &containers {
        assert!(container.env_from.is_none());
        let mounts = container.volume_mounts.as_ref().unwrap();
        for mount in mounts {
            if secret_volumes.contains(&mount.name) {
                let users = secret_users.entry(mount.name.clone()).or_default();
                users.push(container.name.clone());
                users.dedup();
                assert_eq!(mount.read_only, Some(true));
            } else if mount.read_only != Some(true) {
                writers.entry(mount.name.clone()).or_default().push(container.name.clone());
            }
        }
        let sees_bin = mounts.iter().any(|mount| mount.name == "bin");
        assert_eq!(sees_bin, ["install", "agent"].contains(&container.name.as_str()));
    }
    assert!(secret_users.values().all(|users| users.len() == 1), "{secret_users:?}");
    writers.retain(|volume, _| !volume.ends_with("-tmp"));
    let writers: Vec<_> =
        writers.into_iter().map(|(volume, by)| format!("{volume}: {}", by.join(" "))).collect();
    assert_eq!(
        writers,
        [
            "agent: agent",
            "bin: install",
            "collect: collect",
            "deliver: deliver",
            "prepare: prepare",
            "workspace: prepare agent"
        ]
    );
}

#[test]
fn each_credential_goes_to_one_step() {
    let spec = made().spec.unwrap().template.spec.unwrap();
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for container in spec.init_containers.unwrap().into_iter().chain(spec.containers) {
        for variable in container.env.unwrap() {
            if let Some(selector) = variable.value_from.and_then(|from| from.secret_key_ref) {
                users.entry(selector.key).or_default().push(container.name.clone());
            }
        }
    }
    let users: Vec<_> = users.into_iter().map(|(key, by)| format!("{key}: {}", by.join(" "))).collect();
    assert_eq!(
        users,
        [
            "agent.ANTHROPIC_API_KEY: agent",
            "deliver.ASTRA_GIT_TOKEN: deliver",
            "prepare.ASTRA_GIT_TOKEN: prepare"
        ]
    );
}
