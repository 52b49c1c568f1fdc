//! One TLS configuration for every client: one provider, bundled Mozilla roots (an image made from
//! scratch has none of its own) and, for a private CA, the certificates of a PEM file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::UserError;

/// Makes the configuration; `ca_file` adds the certificates of a PEM file to the roots.
pub fn client_config(ca_file: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = ca_file {
        add_certificates(&mut roots, file)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose the TLS versions")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_certificates(roots: &mut RootCertStore, file: &Path) -> anyhow::Result<()> {
    let wrong = |cause: String| {
        UserError::usage(cause, "give a file of PEM certificates (-----BEGIN CERTIFICATE-----)")
            .at(file.display().to_string())
    };
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    let mut count = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        count += 1;
    }
    if count == 0 {
        return Err(wrong("no certificate in it".to_owned()).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, "not a certificate").unwrap();
        let error = client_config(Some(&file)).unwrap_err();
        assert!(error.to_string().ends_with("ca.pem: no certificate in it"), "{error}");
        assert!(client_config(Some(Path::new("/nowhere"))).is_err());
    }

    #[test]
    fn the_bundled_roots_are_enough() {
        assert!(client_config(None).is_ok());
    }
}
