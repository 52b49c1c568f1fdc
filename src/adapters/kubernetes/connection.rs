//! The way to the API server: a kubeconfig, or the pod that we run in.

use std::path::PathBuf;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Config;
use kube::client::{AuthError, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::{BoxError, ServiceBuilder};

use super::call::AnsweringSince;
use crate::environment;
use crate::error::{Exit, UserError};

/// How often an HTTP/2 connection is tried, and how long its answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long it may take to reach the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection, and what it is called.
#[derive(Clone)]
pub struct Cluster {
    pub(super) client: kube::Client,
    pub(super) answering: AnsweringSince,
    /// The kubeconfig context, or `in-cluster`: shown to people.
    pub context: String,
    /// Host and port of the API server.
    pub server: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Connects as the kubeconfig says (`KUBECONFIG`, else `~/.kube/config`), by the given context
    /// or the current one; without a kubeconfig, as the pod that this runs in. Nothing is sent yet.
    pub async fn connect(context: Option<&str>) -> Result<Self, UserError> {
        let (config, context) = configuration(context).await?;
        Self::from_config(config, &context)
    }

    /// The same for a watch of each agent's namespace at once: a connection each, since an API server allows
    /// 100 requests at once on one, and a watch is a request that does not end.
    pub async fn connect_to_watch(context: Option<&str>) -> Result<Self, UserError> {
        let (config, context) = configuration(context).await?;
        Self::with_client(config, &context, kube::Client::try_from)
    }

    /// Connects as this kubeconfig says.
    pub async fn from_kubeconfig(kubeconfig: Kubeconfig, context: Option<&str>) -> Result<Self, UserError> {
        let (config, context) = configuration_of(kubeconfig, context).await?;
        Self::from_config(config, &context)
    }

    /// Connects as this configuration says.
    pub fn from_config(config: Config, context: &str) -> Result<Self, UserError> {
        Self::with_client(config, context, shared)
    }

    fn with_client(
        mut config: Config,
        context: &str,
        client: fn(Config) -> kube::Result<kube::Client>,
    ) -> Result<Self, UserError> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Whether a call may be made again depends on the call: see `call.rs`.
        config.default_retry = false;
        let port = config.cluster_url.port_u16().unwrap_or(443);
        let server = format!("{}:{port}", config.cluster_url.host().unwrap_or_default());
        let client = client(config).map_err(|error| {
            let place = format!("context {context:?} of the kubeconfig");
            plugin_failed(&error).map_or_else(|| unusable(&error, &place), |failed| failed.at(&place))
        })?;
        Ok(Self { client, answering: AnsweringSince::default(), context: context.to_owned(), server })
    }
}

/// The configuration that is meant, and what its context is called.
async fn configuration(context: Option<&str>) -> Result<(Config, String), UserError> {
    if !has_kubeconfig() && context.is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        let config = Config::incluster().map_err(|error| unusable(&error, "the pod's service account"))?;
        return Ok((config, "in-cluster".to_owned()));
    }
    let kubeconfig = Kubeconfig::read().map_err(|error| {
        UserError::usage(
            format!("there is no way to a cluster: {:#}", anyhow::Error::new(error)),
            "set KUBECONFIG to a file that `kubectl` can use; for runs on this machine, write `executor: local` \
             into astra.yaml",
        )
    })?;
    configuration_of(kubeconfig, context).await
}

/// The configuration of a context, or of the current one, and its name.
async fn configuration_of(
    kubeconfig: Kubeconfig,
    context: Option<&str>,
) -> Result<(Config, String), UserError> {
    let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let name =
        context.map(str::to_owned).or_else(|| kubeconfig.current_context.clone()).ok_or_else(|| {
            UserError::usage(
                "the kubeconfig names no current context",
                "set `kubernetes.context` in astra.yaml",
            )
        })?;
    if !known.contains(&name) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(UserError::usage(
            format!("the kubeconfig has no context {name:?}"),
            format!("set `kubernetes.context` in astra.yaml to one that it has: {known}"),
        ));
    }
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| unusable(&error, &format!("context {name:?} of the kubeconfig")))?;
    Ok((config, name))
}

/// As kube makes it, but with HTTP/2 where the server has it: a pass asks for every agent's namespace at once,
/// and with HTTP/1.1 each of these requests has a connection and a TLS handshake of its own
/// (<https://github.com/kube-rs/kube/issues/1266>).
fn shared(config: Config) -> kube::Result<kube::Client> {
    if config.proxy_url.is_some() || config.tls_server_name.is_some() {
        return kube::Client::try_from(config);
    }
    // First: where it fails, a credential plugin has run once.
    let auth = config.auth_layer()?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config()?)
        .https_or_http()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp);
    let mut connector = TimeoutConnector::new(https);
    connector.set_connect_timeout(config.connect_timeout);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Everything shares a connection: one that is dead is noticed.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(kube::Client::new(service, config.default_namespace))
}

/// A credential plugin that ended without a credential. One of our own says by its exit code whether
/// trying again may help.
fn plugin_failed(error: &kube::Error) -> Option<UserError> {
    let kube::Error::Auth(AuthError::AuthExecRun { out, .. }) = error else { return None };
    let said = String::from_utf8_lossy(&out.stderr);
    let said = said.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
    let cause = format!("its credential plugin gave no credential ({}){said}", out.status);
    let make =
        if out.status.code() == Some(Exit::Retry as i32) { UserError::retry } else { UserError::usage };
    Some(make(cause, "see what the plugin says, or run its command by hand".to_owned()))
}

fn unusable(error: &dyn std::error::Error, place: &str) -> UserError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    UserError::usage(text, "check that `kubectl get namespaces` works with it").at(place)
}

fn has_kubeconfig() -> bool {
    let named = environment::value("KUBECONFIG").is_some();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    named || home.is_some_and(|home| home.join(".kube/config").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: one, context: {cluster: c, user: u}}]
current-context: one
"#;

    /// A second TLS provider in the tree would make this panic.
    #[tokio::test]
    async fn every_client_can_be_built() {
        let kubeconfig = Kubeconfig::from_yaml(KUBECONFIG).unwrap();
        let cluster = Cluster::from_kubeconfig(kubeconfig, None).await.unwrap();
        assert_eq!((cluster.context.as_str(), cluster.server.as_str()), ("one", "127.0.0.1:1"));
    }

    #[tokio::test]
    async fn a_plugin_that_fails_is_told_with_its_words() {
        for (code, mode, expected) in [
            (75, "Never", (Exit::Retry, "(exit status: 75): error: no answer")),
            (2, "Never", (Exit::Usage, "(exit status: 2): error: no answer")),
            // It says it to the person itself.
            (2, "IfAvailable", (Exit::Usage, "(exit status: 2)")),
        ] {
            let plugin = format!(
                "{{apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: {mode}, \
                 args: [-c, 'echo \"error: no answer\" >&2; exit {code}']}}"
            );
            let text = KUBECONFIG.replace("{token: t}", &format!("{{exec: {plugin}}}"));
            let error =
                Cluster::from_kubeconfig(Kubeconfig::from_yaml(&text).unwrap(), None).await.unwrap_err();
            assert_eq!(error.exit, expected.0);
            assert!(error.cause.ends_with(expected.1), "{}", error.cause);
        }
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_is_said() {
        let kubeconfig = Kubeconfig::from_yaml(KUBECONFIG).unwrap();
        let error = Cluster::from_kubeconfig(kubeconfig, Some("two")).await.unwrap_err();
        assert_eq!(error.cause, "the kubeconfig has no context \"two\"");
        assert!(error.remedy.ends_with(": one"), "{}", error.remedy);
    }
}
