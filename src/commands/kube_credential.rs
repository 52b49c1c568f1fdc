//! `kube-credential`: a workflow's identity as what a kubeconfig's user is.

use secrecy::ExposeSecret;

use crate::adapters::workflow_identity::{PERMISSION, URL_VARIABLE, WorkflowIdentity};
use crate::cli::KubeCredentialArgs;
use crate::domain::kube_credential::exec_credential;
use crate::error::{Exit, UserError};
use crate::output::{self, workflow};

pub(super) async fn run(args: &KubeCredentialArgs) -> anyhow::Result<Exit> {
    let identity = WorkflowIdentity::from_environment()?.ok_or_else(|| {
        UserError::usage(
            "this is not in a GitHub workflow that may have an identity token",
            format!("give its job {PERMISSION}; elsewhere, use a kubeconfig with a user of your own"),
        )
        .at(URL_VARIABLE)
    })?;
    let token = identity.token_for(&args.audience).await?.map_err(|fault| {
        let make = if fault.is_passing() { UserError::retry } else { UserError::failed };
        make(fault.to_string(), fault.remedy().to_owned())
    })?;
    let credential = exec_credential(token.expose_secret()).map_err(|error| {
        UserError::failed(error.to_string(), "check what answers there; GitHub gives a JSON Web Token")
            .at(URL_VARIABLE)
    })?;
    workflow::hide([token.expose_secret()]);
    // Not `output::json`: that would make it an output of the step.
    output::result(&credential.to_string())?;
    Ok(Exit::Handled)
}
