//! The pod of a run: five steps in one pod, separated by what each can see.
//!
//! ```text
//!            install  prepare  agent  collect  deliver
//! bin          rw        -       ro      -        -      the binary, for the agent's image
//! workspace    -         rw      rw      ro       -      the clone
//! prepare      -         rw      ro      ro       ro     the pinned base commit
//! agent        -         -       rw      ro       ro     report, output, transcript, home
//! collect      -         -       -       rw       ro     the bundle
//! deliver      -         -       -       -        rw     the result
//! ```
//!
//! Our own steps run from our own image and never mount `bin`: what the agent does to any path that
//! it can write changes nothing about what they execute.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, KeyToPath, LocalObjectReference,
    PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretKeySelector,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::identity::item_annotation;
use super::job::{JobInput, MissingImage, pod_deadline, seconds};
use super::secret::{
    KEY_DELIVER_SECRETS, KEY_DELIVER_TOKEN, KEY_PLAN, KEY_PREPARE_TOKEN, KEY_SYSTEM_PROMPT, KEY_TASK,
    agent_credential_key,
};
use super::{AGENT_SERVICE_ACCOUNT, ANNOTATION_ITEM, string_map};
use crate::domain::registry::Limits;

/// A run's directory in a pod.
pub const RUN_DIR: &str = "/run/astra";
/// Where our own image has the program.
pub const OWN_BINARY: &str = "/usr/local/bin/astra-dispatch";
/// Where `install` puts the program for the agent's image.
pub const BIN_DIR: &str = "/opt/astra";
/// Where the kubelet reads the termination message from.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// A step of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Copies the binary.
    Install,
    /// Clones.
    Prepare,
    /// Runs the agent.
    Agent,
    /// Bundles the work.
    Collect,
    /// Gates, pushes and reports.
    Deliver,
}

impl Step {
    /// All of them, in the order that they run in.
    pub const ALL: [Self; 5] = [Self::Install, Self::Prepare, Self::Agent, Self::Collect, Self::Deliver];

    /// The name of its container.
    pub fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Prepare => "prepare",
            Self::Agent => "agent",
            Self::Collect => "collect",
            Self::Deliver => "deliver",
        }
    }

    /// The directories of the run that it may write.
    fn writes(self) -> &'static [&'static str] {
        match self {
            Self::Install => &[],
            Self::Prepare => &["workspace", "prepare"],
            Self::Agent => &["workspace", "agent"],
            Self::Collect => &["collect"],
            Self::Deliver => &["deliver"],
        }
    }

    /// The directories of the run that it may read.
    fn reads(self) -> &'static [&'static str] {
        match self {
            Self::Install | Self::Prepare => &[],
            Self::Agent => &["prepare"],
            Self::Collect => &["workspace", "prepare", "agent"],
            Self::Deliver => &["prepare", "agent", "collect"],
        }
    }

    /// The files of the run's Secret that it gets, by key, which is also the name of the file.
    fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Install => &[],
            Self::Prepare | Self::Collect => &[KEY_PLAN],
            Self::Agent => &[KEY_PLAN, KEY_SYSTEM_PROMPT, KEY_TASK],
            Self::Deliver => &[KEY_PLAN, KEY_DELIVER_SECRETS],
        }
    }
}

/// Directories that outlive a step, with their size limits. A pod that writes more is evicted.
const RUN_VOLUMES: [(&str, &str); 5] =
    [("workspace", "8Gi"), ("prepare", "1Gi"), ("agent", "4Gi"), ("collect", "2Gi"), ("deliver", "64Mi")];
/// Size limit of the volume that `install` fills.
const BIN_SIZE: &str = "128Mi";
/// Size limit of a step's `/tmp`.
const TMP_SIZE: &str = "4Gi";
/// Memory of our own steps: Git unpacks whole objects.
pub(super) const OWN_MEMORY: &str = "1Gi";
/// The same in bytes.
pub(super) const OWN_MEMORY_BYTES: u64 = 1 << 30;
/// CPU of our own steps.
pub(super) const OWN_CPU: &str = "1";
/// The same in thousandths of a CPU.
pub(super) const OWN_CPU_MILLIS: u64 = 1000;

/// The pod's template.
pub(super) fn pod_template(
    input: &JobInput,
    labels: BTreeMap<String, String>,
) -> Result<PodTemplateSpec, MissingImage> {
    let own_image = input.image.ok_or(MissingImage::Own)?;
    let agent_image = input.runtime.image.as_deref().ok_or(MissingImage::Agent)?;
    let mut containers: Vec<Container> = Step::ALL
        .into_iter()
        .map(|step| container(step, input, if step == Step::Agent { agent_image } else { own_image }))
        .collect();
    let main = containers.split_off(Step::ALL.len() - 1);
    let runtime = input.runtime;
    let pull_secrets = runtime.pull_secret.iter().map(|name| LocalObjectReference { name: name.clone() });
    Ok(PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            // So that a pod that outlives its Job can still be counted for its item.
            annotations: Some(string_map([(ANNOTATION_ITEM, item_annotation(input.project, input.item))])),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            init_containers: Some(containers),
            containers: main,
            volumes: Some(volumes(input)),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(seconds(pod_deadline(&input.plan.limits))),
            termination_grace_period_seconds: Some(30),
            service_account_name: Some(AGENT_SERVICE_ACCOUNT.to_owned()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            share_process_namespace: Some(false),
            security_context: Some(pod_security(runtime.uid)),
            image_pull_secrets: Some(pull_secrets.collect::<Vec<_>>()).filter(|secrets| !secrets.is_empty()),
            runtime_class_name: runtime.runtime_class.clone(),
            ..PodSpec::default()
        }),
    })
}

fn container(step: Step, input: &JobInput, image: &str) -> Container {
    Container {
        name: step.name().to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(command(step)),
        env: Some(environment(step, input)),
        resources: Some(resources(step, &input.plan.limits)),
        security_context: Some(container_security(step == Step::Agent && input.runtime.writable_root)),
        volume_mounts: Some(mounts(step)),
        termination_message_path: Some(TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    }
}

fn command(step: Step) -> Vec<String> {
    let binary = match step {
        Step::Agent => format!("{BIN_DIR}/astra-dispatch"),
        _ => OWN_BINARY.to_owned(),
    };
    let mut command = vec![binary, "run".to_owned(), step.name().to_owned()];
    match step {
        Step::Install => command.extend(["--to".to_owned(), BIN_DIR.to_owned()]),
        _ => command.extend(["--run-dir".to_owned(), RUN_DIR.to_owned()]),
    }
    if step == Step::Agent {
        command.push("--contained".to_owned());
    }
    if step == Step::Deliver {
        command.extend(["--termination-message".to_owned(), TERMINATION_LOG.to_owned()]);
    }
    command
}

/// Each credential goes to one container, key by key: `envFrom` would hand over all of them.
fn environment(step: Step, input: &JobInput) -> Vec<EnvVar> {
    let plain = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        value_from: None,
    };
    let secret = |name: &str, key: String, optional: bool| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: input.plan.run.to_string(),
                key,
                optional: Some(optional),
            }),
            ..EnvVarSource::default()
        }),
    };
    let mut environment = vec![plain("HOME", "/tmp"), plain("TMPDIR", "/tmp")];
    match step {
        Step::Install | Step::Collect => {}
        // A Git server on the inside may need no token.
        Step::Prepare => environment.push(secret("ASTRA_GIT_TOKEN", KEY_PREPARE_TOKEN.to_owned(), true)),
        Step::Deliver => environment.push(secret("ASTRA_GIT_TOKEN", KEY_DELIVER_TOKEN.to_owned(), true)),
        Step::Agent => {
            let names = &input.plan.credential_names;
            environment.extend(names.iter().map(|name| secret(name, agent_credential_key(name), false)));
        }
    }
    environment
}

fn resources(step: Step, limits: &Limits) -> ResourceRequirements {
    let quantities = |cpu: &str, memory: &str| {
        Some(BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ]))
    };
    let (cpu, memory) = match step {
        Step::Agent => (limits.cpu.as_str(), limits.memory.as_str()),
        _ => (OWN_CPU, OWN_MEMORY),
    };
    // Memory is reserved whole: a node out of memory would kill runs that kept their limits. CPU can
    // be shared.
    let requested_cpu = match step {
        Step::Agent => format!("{}m", (limits.cpu_millis / 4).max(1)),
        _ => "100m".to_owned(),
    };
    ResourceRequirements {
        limits: quantities(cpu, memory),
        requests: quantities(&requested_cpu, memory),
        ..ResourceRequirements::default()
    }
}

fn mounts(step: Step) -> Vec<VolumeMount> {
    let mount = |name: String, path: String, read_only: bool| VolumeMount {
        name,
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount(tmp_volume(step), "/tmp".to_owned(), false)];
    match step {
        Step::Install => mounts.push(mount("bin".to_owned(), BIN_DIR.to_owned(), false)),
        Step::Agent => mounts.push(mount("bin".to_owned(), BIN_DIR.to_owned(), true)),
        _ => {}
    }
    let directory = |name: &str, read_only| mount(name.to_owned(), format!("{RUN_DIR}/{name}"), read_only);
    mounts.extend(step.writes().iter().map(|name| directory(name, false)));
    mounts.extend(step.reads().iter().map(|name| directory(name, true)));
    mounts.extend(step.inputs().iter().map(|key| VolumeMount {
        sub_path: Some((*key).to_owned()),
        ..mount(input_volume(step), format!("{RUN_DIR}/{key}"), true)
    }));
    mounts
}

fn volumes(input: &JobInput) -> Vec<Volume> {
    let empty = |name: &str, size: &str| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(Quantity(size.to_owned())), medium: None }),
        ..Volume::default()
    };
    let mut volumes = vec![empty("bin", BIN_SIZE)];
    volumes.extend(RUN_VOLUMES.into_iter().map(|(name, size)| empty(name, size)));
    volumes.extend(Step::ALL.into_iter().map(|step| empty(&tmp_volume(step), TMP_SIZE)));
    let with_inputs = Step::ALL.into_iter().filter(|step| !step.inputs().is_empty());
    volumes.extend(with_inputs.map(|step| Volume {
        name: input_volume(step),
        secret: Some(SecretVolumeSource {
            secret_name: Some(input.plan.run.to_string()),
            default_mode: Some(0o440),
            items: Some(step.inputs().iter().map(|key| key_to_path(key)).collect()),
            optional: None,
        }),
        ..Volume::default()
    }));
    volumes
}

fn key_to_path(key: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: key.to_owned(), mode: None }
}

fn tmp_volume(step: Step) -> String {
    format!("{}-tmp", step.name())
}

fn input_volume(step: Step) -> String {
    format!("{}-input", step.name())
}

pub(super) fn pod_security(uid: u32) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(i64::from(uid)),
        run_as_group: Some(i64::from(uid)),
        fs_group: Some(i64::from(uid)),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

pub(super) fn container_security(writable_root: bool) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        read_only_root_filesystem: Some(!writable_root),
        ..SecurityContext::default()
    }
}
