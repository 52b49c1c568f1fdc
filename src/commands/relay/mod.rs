//! `relay`: receives Plane's webhooks, keeps what matters, and starts the workflow for it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::adapters::github::GitHub;
use crate::adapters::github::app_token::Tokens;
use crate::adapters::github::dispatches::Dispatches;
use crate::adapters::kubernetes::Cluster;
use crate::adapters::local::StateDirectory;
use crate::adapters::registry_files;
use crate::adapters::relay_spool::Spool;
use crate::cli::RelayArgs;
use crate::domain::name::Repository;
use crate::domain::registry::Registry;
use crate::domain::relay::filter::Filter;
use crate::domain::relay::signature::Secrets;
use crate::environment;
use crate::error::{Exit, UserError};
use crate::output;

mod door;
mod forward;
mod jobs;
mod metrics;
mod receive;

use metrics::Metrics;

/// How long open requests and a dispatch under way may take once we are told to stop.
const LAST_SECONDS: Duration = Duration::from_secs(20);

pub(super) async fn run(args: &RelayArgs) -> anyhow::Result<Exit> {
    let secrets = secrets()?;
    let registry = registry_files::load(&args.registry.registry)?;
    let dispatches = Arc::new(Dispatches {
        tokens: Tokens::of_environment()?.ok_or_else(|| {
            UserError::usage(
                "there is no way to sign in to GitHub",
                "set GITHUB_TOKEN, or ASTRA_APP_ID and ASTRA_APP_PRIVATE_KEY",
            )
        })?,
        github: GitHub::of_environment()?,
        repository: repository(args)?,
    });
    let cluster = match args.watch_jobs {
        true => Some(Cluster::connect_to_watch(registry.kubernetes.context.as_deref()).await?),
        false => None,
    };
    let variable = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let state = StateDirectory::open(args.state.state_dir.as_deref(), &registry.plane.workspace, variable)?;
    let spool = Spool::open(&state.relay_spool())?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        UserError::usage(format!("cannot listen on {}: {error}", args.listen), "give another address")
            .at("--listen")
    })?;
    let address = listener.local_addr().context("find the address that is listened on")?;
    let metrics = Arc::new(Metrics::new());
    let (stop, stopping) = watch::channel(false);
    stop_on_signal(stop)?;
    let relay = receive::Relay::new(secrets, filter(&registry, args), spool.clone(), Arc::clone(&metrics));
    output::result(&format!("listening on http://{address}/plane"))?;
    let watching = cluster.map(|cluster| {
        let (dispatches, metrics) = (Arc::clone(&dispatches), Arc::clone(&metrics));
        tokio::spawn(jobs::watch_jobs(cluster, registry, dispatches, metrics, stopping.clone()))
    });
    let forwarder = forward::Forwarder::new(dispatches, spool, relay.arrived(), metrics);
    let forwarding = tokio::spawn(forwarder.run(stopping.clone()));
    receive::serve(listener, relay, stopping, LAST_SECONDS).await?;
    // What is not forwarded by then is on the disk.
    let _ = tokio::time::timeout(LAST_SECONDS, forwarding).await;
    if let Some(watching) = watching {
        let _ = tokio::time::timeout(LAST_SECONDS, watching).await;
    }
    Ok(Exit::Handled)
}

/// Without a secret anybody could start workflows: that is refused.
fn secrets() -> Result<Secrets, UserError> {
    let text = std::env::var("ASTRA_WEBHOOK_SECRET").map(SecretString::from).unwrap_or_default();
    Secrets::parse(secrecy::ExposeSecret::expose_secret(&text)).ok_or_else(|| {
        UserError::usage(
            "there is no secret to check webhooks with",
            "set ASTRA_WEBHOOK_SECRET to the secret that Plane showed when the webhook was made",
        )
    })
}

fn repository(args: &RelayArgs) -> Result<Repository, UserError> {
    if let Some(repository) = &args.repository {
        return Ok(repository.clone());
    }
    let named = environment::text("GITHUB_REPOSITORY");
    let named = named.ok_or_else(|| {
        UserError::usage("no repository is named", "give --repository OWNER/NAME, the one with the workflow")
    })?;
    named.parse().map_err(|error| {
        UserError::usage(format!("{error}"), "it has the form owner/name").at("GITHUB_REPOSITORY")
    })
}

fn filter(registry: &Registry, args: &RelayArgs) -> Filter {
    Filter {
        workspace: registry.plane.workspace_id,
        projects: registry.projects.keys().map(|project| project.0).collect(),
        own_actors: args.own_actor.iter().copied().collect(),
    }
}

fn stop_on_signal(stop: watch::Sender<bool>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // Kept, so that nobody takes the end of this task for anything else.
        stop.closed().await;
    });
    Ok(())
}
