//! A Git server over https with an authority of its own: the `git http-backend` of this machine.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a module of several test programs, each using its part"
)]

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// Holds the delay of its answers, beside the repositories.
const DELAY: &str = ".delay";

/// The server, and its repositories.
pub struct GitServer {
    home: tempfile::TempDir,
    address: SocketAddr,
}

impl GitServer {
    /// Serves a repository `astra/api` with one commit on `main`, at this address of the machine.
    pub async fn new(address: IpAddr) -> Self {
        let home = tempfile::tempdir().unwrap();
        certificates(home.path(), address);
        let seed = home.path().join("seed");
        std::fs::create_dir_all(&seed).unwrap();
        std::fs::write(seed.join("README.md"), "# A sample\n").unwrap();
        git(&seed, &["init", "-q", "-b", "main"]);
        git(&seed, &["add", "."]);
        git(&seed, &["commit", "-q", "-m", "first"]);
        let bare = home.path().join("git/astra/api.git");
        std::fs::create_dir_all(bare.parent().unwrap()).unwrap();
        git(home.path(), &["clone", "-q", "--bare", "seed", bare.to_str().unwrap()]);
        git(&bare, &["config", "http.receivepack", "true"]);
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(backend).with_state(home.path().join("git"));
        let tls = Tls::new(listener, home.path());
        tokio::spawn(async move { axum::serve(tls, router).await.unwrap() });
        Self { home, address }
    }

    /// The base of its remotes.
    pub fn base_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where its repositories are.
    pub fn repositories(&self) -> PathBuf {
        self.home.path().join("git")
    }

    /// The certificate of its authority, as PEM.
    pub fn authority(&self) -> PathBuf {
        self.home.path().join("ca.crt")
    }

    /// Makes a script a hook of the served repository.
    pub fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.home.path().join("git/astra/api.git/hooks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Lets every answer take so long, in milliseconds.
    pub fn delay(&self, milliseconds: u64) {
        std::fs::write(self.home.path().join("git").join(DELAY), milliseconds.to_string()).unwrap();
    }

    /// Runs git in the served repository.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.home.path().join("git/astra/api.git"), arguments)
    }
}

/// Runs git, whatever this machine's configuration is.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes an authority, `ca.crt`, and for this address `git.crt` and `git.key`.
pub fn certificates(directory: &Path, address: IpAddr) {
    let openssl = |arguments: &[&str]| {
        let output =
            std::process::Command::new("openssl").args(arguments).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(directory.join("openssl.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n").unwrap();
    let name = format!("subjectAltName=IP:{address}");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"];
    let common = ["req", "-x509", "-config", "openssl.cnf"];
    let of = |rest: &[&'static str]| [&common[..], &key[..], rest].concat();
    openssl(&of(&[
        "-subj",
        "/CN=test authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
    ]));
    let mut leaf = of(&[
        "-subj", "/CN=git", "-keyout", "git.key", "-out", "git.crt", "-CA", "ca.crt", "-CAkey", "ca.key",
    ]);
    leaf.extend(["-addext", "basicConstraints=CA:FALSE", "-addext", &name]);
    openssl(&leaf);
}

fn tls(directory: &Path) -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(directory.join("git.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("git.key")).unwrap();
    ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()
}

/// A listener with the certificate of a directory.
pub struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tls {
    pub fn new(listener: TcpListener, directory: &Path) -> Self {
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls(directory))) }
    }
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One request to `git http-backend` (RFC 3875).
pub async fn backend(State(root): State<PathBuf>, request: Request) -> Response {
    let delay = std::fs::read_to_string(root.join(DELAY)).ok().and_then(|text| text.parse().ok());
    tokio::time::sleep(std::time::Duration::from_millis(delay.unwrap_or(0))).await;
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or(""))
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = tokio::spawn(async move {
        stdin.write_all(&body).await.ok();
    });
    let output = child.wait_with_output().await.unwrap().stdout;
    write.await.unwrap();
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).unwrap()
}
