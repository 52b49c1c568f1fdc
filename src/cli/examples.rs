//! What `--help` shows below the options of each command. Every line is checked to parse.

pub(super) const PROGRAM: &str = "\
Examples:
  astra-dispatch demo                              see a task become a reviewed branch, on this machine
  astra-dispatch init                              set up your own repository
  astra-dispatch agents check                      check the registry in .astra
  astra-dispatch explain --event event.json        what would happen, and why
  astra-dispatch dispatch --event event.json       make it happen
  astra-dispatch status --watch                    what everyone is doing

Exit codes:
  0   handled (dispatched, waiting, ignored, refused: all recorded)
  1   failed
  2   wrong usage or invalid configuration
  75  nothing was lost, but a needed service did not answer: try again";

pub(super) const DISPATCH: &str = "\
Examples:
  astra-dispatch dispatch --event event.json                      start what an event asks for, and wait
  astra-dispatch dispatch --task AST-12 --detach                  by hand, without waiting
  astra-dispatch dispatch --event event.json --dry-run client     show the manifests of a cluster's run";

pub(super) const EXPLAIN: &str = "\
Examples:
  astra-dispatch explain --event event.json
  astra-dispatch explain --task AST-12 --format json";

pub(super) const PUBLISH: &str = "\
Examples:
  astra-dispatch publish                           all runs that have ended
  astra-dispatch publish --run ast-12-x7k2p        only this one";

pub(super) const SWEEP: &str = "\
Examples:
  astra-dispatch sweep                             on this machine, or as astra.yaml says
  astra-dispatch sweep --executor kubernetes --keep-days 30";

pub(super) const CANCEL: &str = "\
Example:
  astra-dispatch cancel ast-12-x7k2p";

pub(super) const STATUS: &str = "\
Examples:
  astra-dispatch status --watch                    go on showing changes
  astra-dispatch status --history 50               runs of the past, from any machine
  astra-dispatch status --format json";

pub(super) const LOGS: &str = "\
Examples:
  astra-dispatch logs ast-12-x7k2p
  astra-dispatch logs ast-12-x7k2p -f              go on until the run ends";

pub(super) const INIT: &str = "\
Examples:
  astra-dispatch init                              on this machine; asks what it must
  astra-dispatch init --plane-url https://plane.example.com --workspace acme --project AST
  astra-dispatch init --diff                       only show what would be written";

pub(super) const DEMO: &str = "\
Examples:
  astra-dispatch demo                              with a scripted agent
  astra-dispatch demo --runtime claude-code        with Claude Code and your key";

pub(super) const RELAY: &str = "\
Examples:
  astra-dispatch relay --listen 0.0.0.0:8080 --repository astra/api
  astra-dispatch relay --listen 0.0.0.0:8080 --repository astra/api --watch-jobs";

pub(super) const KUBE_CREDENTIAL: &str = "\
Example:
  astra-dispatch kube-credential --audience astra-dispatch";

pub(super) const COMPLETIONS: &str = "\
Examples:
  mkdir -p ~/.local/share/bash-completion/completions
  astra-dispatch completions bash > ~/.local/share/bash-completion/completions/astra-dispatch
  astra-dispatch completions zsh > ~/.zfunc/_astra-dispatch
  astra-dispatch completions fish > ~/.config/fish/completions/astra-dispatch.fish";

pub(super) const MAN: &str = "\
Example:
  astra-dispatch man ~/.local/share/man/man1       then: man astra-dispatch-dispatch";

pub(super) const AGENTS_CHECK: &str = "\
Examples:
  astra-dispatch agents check
  astra-dispatch agents check --format sarif > agents.sarif";

pub(super) const AGENTS_LIST: &str = "\
Examples:
  astra-dispatch agents list
  astra-dispatch agents list --format json";

pub(super) const AGENTS_NEW: &str = "\
Example:
  astra-dispatch agents new nova --role coder";

pub(super) const AGENTS_PROMPT: &str = "\
Examples:
  astra-dispatch agents prompt vega                           the system prompt
  astra-dispatch agents prompt vega --event event.json        also what it is told of the task";

pub(super) const AGENTS_SCHEMA: &str = "\
Examples:
  astra-dispatch agents schema > agent.schema.json
  astra-dispatch agents schema astra > astra.schema.json";

pub(super) const AGENTS_PROVISION: &str = "\
Examples:
  astra-dispatch agents provision | kubectl apply -f -
  astra-dispatch agents provision --agent vega --api-server 203.0.113.7 | kubectl apply -f -";

pub(super) const AGENTS_DOCTOR: &str = "\
Examples:
  astra-dispatch agents doctor                     look at the cluster
  astra-dispatch agents doctor --probe             also try what must fail
  astra-dispatch agents doctor --github            look at GitHub instead";

pub(super) const VAULT_SET: &str = "\
Example:
  astra-dispatch vault set vega ANTHROPIC_API_KEY < key.txt";

pub(super) const VAULT_LIST: &str = "\
Example:
  astra-dispatch vault list";

pub(super) const VAULT_ROTATE: &str = "\
Example:
  astra-dispatch vault rotate vega ANTHROPIC_API_KEY < key.txt";

pub(super) const VAULT_REMOVE: &str = "\
Example:
  astra-dispatch vault remove vega ANTHROPIC_API_KEY";

pub(super) const VAULT_MERGE: &str = "\
Example:
  astra-dispatch vault merge base.age ours.age theirs.age";

pub(super) const RECIPIENTS_LIST: &str = "\
Example:
  astra-dispatch vault recipients list";

pub(super) const RECIPIENTS_ADD: &str = "\
Example:
  astra-dispatch vault recipients add age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

pub(super) const RECIPIENTS_REMOVE: &str = "\
Example:
  astra-dispatch vault recipients remove age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

pub(super) const RUN_SUPERVISE: &str = "\
Example:
  astra-dispatch run supervise ast-12-x7k2p";

pub(super) const RUN_INSTALL: &str = "\
Example:
  astra-dispatch run install --to /opt/astra";

pub(super) const RUN_PREPARE: &str = "\
Example:
  astra-dispatch run prepare --run-dir /run/astra";

pub(super) const RUN_AGENT: &str = "\
Example:
  astra-dispatch run agent --run-dir /run/astra --contained";

pub(super) const RUN_COLLECT: &str = "\
Example:
  astra-dispatch run collect --run-dir /run/astra";

pub(super) const RUN_DELIVER: &str = "\
Example:
  astra-dispatch run deliver --run-dir /run/astra --termination-message /dev/termination-log";
