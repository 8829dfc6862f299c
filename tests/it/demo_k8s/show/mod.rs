//! The demo's story. Each step fails when what it announces is not to be seen.

mod cluster;
mod dependencies;
mod screen;

use std::fs;
use std::io;

use serde_json::Value;
use tokio::time::Instant;

use cluster::{Cluster, NAMESPACE, Watch};
use dependencies::Dependencies;
pub use screen::Screen;

/// Result of a step.
pub type Done<T = ()> = Result<T, Problem>;

/// Reason that the demo did not show what it announced.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A file, a port or the terminal.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something was not as it should be.
    #[error("{0}")]
    Missed(String),
}

impl Problem {
    fn new(text: impl Into<String>) -> Self {
        Self::Missed(text.into())
    }

    /// Returns whether no one reads the output.
    #[allow(dead_code, reason = "of a terminal only")]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The trunk that is broken, and its password.
const TRUNK: &str = "acme-udp";
const RIGHT: &str = "password: demo-acme-udp-password";
const WRONG: &str = "password: wrong";
/// File of the passwords, in the demo's folder.
const CREDENTIALS: &str = "routr/credentials.yaml";

/// All of it. Whatever it started has ended when it returns, or is dropped.
pub async fn run(screen: &Screen) -> Done {
    screen.say(
        "The operator of routr-registry on a real Kubernetes control plane, live. It takes about a minute. Ctrl-C ends it at \
         any moment, and nothing of it is left. No kubeconfig of yours is read or written.",
    )?;
    let cluster = start_cluster(screen).await?;
    install(screen, &cluster).await?;
    let mut operator = start_operator(screen, &cluster).await?;
    let dependencies = start_dependencies(screen, &cluster).await?;
    apply(screen, &cluster, &dependencies).await?;
    let mut watch = register(screen, &cluster, &dependencies).await?;
    break_a_trunk(screen, &dependencies, &mut watch).await?;
    describe(screen, &cluster).await?;
    repair(screen, &cluster, &dependencies, watch).await?;
    delete(screen, &cluster, &dependencies).await?;
    screen.title("The end").await?;
    operator.ready().await?;
    operator.end().await?;
    drop((dependencies, cluster));
    screen.say(
        "All that the demo had started is ended, and its folder is gone. Next: \"Kubernetes\" in README.md.",
    )
}

async fn start_cluster(screen: &Screen) -> Done<Cluster> {
    screen.title("A Kubernetes control plane").await?;
    screen.say(
        "Starting etcd, kube-apiserver and kube-controller-manager on loopback, with RBAC. There are no nodes: nothing runs pods.",
    )?;
    let cluster = Cluster::start().await?;
    screen.say("Ready. To look into it from another terminal while this goes on:")?;
    screen.output(&format!(
        "\n    export KUBECONFIG={}\n    export PATH={}:$PATH\n    cd {}\n    kubectl get registries",
        cluster.kubeconfig.display(),
        cluster.path(),
        cluster.folder().display()
    ))?;
    Ok(cluster)
}

async fn install(screen: &Screen, cluster: &Cluster) -> Done {
    screen.title("Install the chart").await?;
    let said = "helm install routr-registry charts/routr-registry --namespace routr --create-namespace";
    screen.command(said).await?;
    let notes = cluster.ask(said).await?;
    let status =
        notes.lines().filter(|line| ["NAME", "NAMESPACE", "STATUS"].iter().any(|it| line.starts_with(it)));
    screen.output(&status.collect::<Vec<_>>().join("\n"))?;
    screen.command("kubectl get crd,serviceaccount,deployment,poddisruptionbudget --output=name").await?;
    let objects = "kubectl get crd,serviceaccount,deployment,poddisruptionbudget --output=name";
    let objects = cluster.ask(objects).await?;
    let own: Vec<&str> = objects.lines().filter(|line| !line.ends_with("/default")).collect();
    screen.output(&own.join("\n"))?;
    expect(own.len() == 4, || format!("the chart should have made four objects: {objects}"))
}

async fn start_operator(screen: &Screen, cluster: &Cluster) -> Done<cluster::Operator> {
    screen.title("Run the operator").await?;
    let mut operator = cluster.start_operator().await?;
    screen.say(&format!(
        "In a cluster with nodes the Deployment runs two replicas now. Here one runs as a process, with the arguments of the \
         Deployment and the rights of its ServiceAccount, {}/{}:",
        NAMESPACE, operator.account
    ))?;
    screen.command(&operator.shown.clone()).await?;
    let ready = operator.ready().await?;
    screen.command(&format!("curl http://127.0.0.1:{}/readyz", operator.public)).await?;
    screen.output(&ready)?;
    screen.say(&format!(
        "\nFrom another terminal: routr-registry trunks --url http://127.0.0.1:{} (in a cluster: through kubectl port-forward).",
        operator.private
    ))?;
    Ok(operator)
}

async fn start_dependencies(screen: &Screen, cluster: &Cluster) -> Done<Dependencies> {
    screen.title("Routr around it").await?;
    let dependencies = Dependencies::start(&cluster.folder().join("routr")).await?;
    screen.say(&format!(
        "Started, on loopback and real: an API server with {} sample trunks ({}), a Requester ({}), and two SIP registrars, Acme and \
         Globex.",
        dependencies.trunks(),
        dependencies.api,
        dependencies.requester
    ))?;
    Ok(dependencies)
}

async fn apply(screen: &Screen, cluster: &Cluster, dependencies: &Dependencies) -> Done {
    screen.title("Apply a Registry").await?;
    let line = |text: &str, why: &str| format!("{text:<35}# {why}\n");
    let manifest = [
        "apiVersion: routr.io/v2beta1\nkind: Registry\nmetadata:\n  name: demo\nspec:\n".to_owned(),
        line(&format!("  apiAddr: {}", dependencies.api), "lists the trunks"),
        line(&format!("  requesterAddr: {}", dependencies.requester), "sends SIP"),
        "  edgePorts:\n    - address: 127.0.0.1:5060\n".to_owned(),
        line("  registerInterval: 2s", "short, for a demo"),
        "  registration:\n".to_owned(),
        line("    expires: 12s", "short, for a demo"),
        "    redirects:\n".to_owned(),
        line("      domains: [127.0.0.0/8]", "Acme redirects a trunk to Globex"),
        line("      credentials: true", "which may have its password"),
    ]
    .concat();
    let file = cluster.folder().join("registry.yaml");
    fs::write(&file, &manifest)?;
    screen.command("cat registry.yaml").await?;
    screen.output(&manifest)?;
    screen.command("kubectl apply -f registry.yaml").await?;
    screen.output(&cluster.ask(&format!("kubectl apply -f {}", file.display())).await?)
}

async fn register(screen: &Screen, cluster: &Cluster, dependencies: &Dependencies) -> Done<Watch> {
    let mut watch = cluster.watch(screen).await?;
    let all = dependencies.trunks().to_string();
    watch.until(screen, &["True", &all, "AllRegistered"]).await?;
    bindings(screen, dependencies, dependencies.trunks()).await?;
    cluster.show(screen, "kubectl wait registry demo --for=condition=Ready --timeout=1m").await?;
    Ok(watch)
}

async fn break_a_trunk(screen: &Screen, dependencies: &Dependencies, watch: &mut Watch) -> Done {
    screen.title("Break something").await?;
    screen.say(&format!(
        "A user gives the trunk {TRUNK} a wrong password, at Routr's API server. The registrar refuses the next REGISTER, but \
         still holds the binding of the last one: the trunk is at risk. When the binding expires, it fails. The watch of above \
         goes on and shows both."
    ))?;
    screen.command(&format!("sed -i 's/{RIGHT}/{WRONG}/' {CREDENTIALS}")).await?;
    dependencies.edit_credentials(RIGHT, WRONG)?;
    watch.until(screen, &["True", "TrunksAtRisk"]).await?;
    watch.until(screen, &["False", "1", "TrunksFailing"]).await
}

async fn describe(screen: &Screen, cluster: &Cluster) -> Done {
    screen.title("See it reported").await?;
    screen.say("Shortened here: ... stands for what is left out.")?;
    let text = cluster.ask("kubectl describe registry demo").await?;
    screen.command("kubectl describe registry demo").await?;
    screen.output(&excerpt(&text))?;
    let status = cluster.ask("kubectl get registry demo --output=json").await?;
    let status: Value = serde_json::from_str(&status).map_err(|error| Problem::new(error.to_string()))?;
    let failure = &status["status"]["failures"][0];
    let as_announced = failure["ref"] == TRUNK && failure["reason"] == "CredentialsRejected";
    expect(as_announced, || format!("the status should name {TRUNK}: {status:#}"))?;
    screen.pause(6000).await;
    Ok(())
}

async fn repair(screen: &Screen, cluster: &Cluster, dependencies: &Dependencies, mut watch: Watch) -> Done {
    screen.title("Repair it").await?;
    screen.say(
        "A refused password is tried again after five minutes, since providers lock accounts; a new one at once. The watch of \
         above shows it.",
    )?;
    screen.command(&format!("sed -i 's/{WRONG}/{RIGHT}/' {CREDENTIALS}")).await?;
    dependencies.edit_credentials(WRONG, RIGHT)?;
    watch.until(screen, &["True", "AllRegistered"]).await?;
    drop(watch);
    cluster.show(screen, "kubectl get registries --output=wide").await?;
    Ok(())
}

async fn delete(screen: &Screen, cluster: &Cluster, dependencies: &Dependencies) -> Done {
    screen.title("Delete it").await?;
    screen.say(
        "A finalizer keeps the Registry until its trunks are de-registered, for 30 seconds at most: kubectl returns after that.",
    )?;
    bindings(screen, dependencies, dependencies.trunks()).await?;
    cluster.show(screen, "kubectl delete registry demo --timeout=1m").await?;
    bindings(screen, dependencies, 0).await?;
    cluster.show(screen, "kubectl get events --field-selector=reason=Deregistered").await?;
    Ok(())
}

/// Says how many bindings the registrars hold, and expects this number.
async fn bindings(screen: &Screen, dependencies: &Dependencies, wanted: usize) -> Done {
    let deadline = Instant::now() + cluster::PATIENCE;
    while dependencies.bindings() != wanted && Instant::now() < deadline {
        tokio::time::sleep(cluster::POLL).await;
    }
    let held = dependencies.bindings();
    screen.say(&format!("\nAsked directly, the SIP registrars hold {held} bindings."))?;
    expect(held == wanted, || format!("the registrars should hold {wanted} bindings"))
}

/// Returns the part of describe's output, which is long, that a person looks for: of the spec and the
/// conditions only those that are not well.
fn excerpt(text: &str) -> String {
    const CUT: &str = "...";
    let mut lines: Vec<&str> = Vec::new();
    let mut section = "";
    let mut conditions: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            section = line.split(':').next().unwrap_or_default();
        } else if section == "Status" && line.starts_with("  ") && !line.starts_with("   ") {
            section = if line.trim() == "Conditions:" { "Conditions" } else { "Status" };
        } else if section == "Conditions" && !line.starts_with("    ") {
            section = "Status";
        }
        match section {
            "Conditions" if line.trim() == "Conditions:" => lines.push(line),
            "Conditions" => {
                if line.contains("Last Transition Time") {
                    conditions.push(Vec::new());
                }
                conditions.last_mut().into_iter().for_each(|condition| condition.push(line));
            }
            "Name" | "Namespace" | "Status" | "Events" => {
                for condition in conditions.drain(..) {
                    let shown = condition.iter().any(|line| {
                        let mut words = line.split_whitespace();
                        words.next() == Some("Type:")
                            && matches!(words.next(), Some("Ready" | "CredentialsAccepted"))
                    });
                    match shown {
                        true => lines.extend(condition),
                        false => lines.push(CUT),
                    }
                }
                lines.push(line);
            }
            _ => lines.push(CUT),
        }
    }
    lines.dedup_by(|after, before| after == before && *after == CUT);
    lines.join("\n")
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Done {
    match holds {
        true => Ok(()),
        false => Err(Problem::new(otherwise())),
    }
}
