//! What people, autoscalers and other tools do to the cluster, one call each. They are administrators: no rule stops them.

use serde_json::Value;

use super::{
    super::{
        api::{
            kinds::{DEPLOYMENT, Key, NAMESPACE, POD, REPLICA_SET},
            managed::Writer,
            refusal::Refusal,
            write::{Deletion, Propagation},
        },
        clock,
        json::{self, flag, set},
    },
    World, deployment, owner,
};

const IMAGE: &str = "/spec/template/spec/containers/0/image";

impl World {
    fn edit_deployment(&self, manager: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let key = Key::new(&DEPLOYMENT, namespace, name);
        self.api
            .write(|store| store.edit(&Writer::new(manager), &key, "", change))
            .unwrap_or_else(|refusal| panic!("{manager} on {key}: {refusal:?}"));
    }

    /// `kubectl set image` of the first container.
    pub fn set_image(&self, namespace: &str, name: &str, image: &str) {
        self.server_side_apply_image("kubectl-set", namespace, name, image);
    }

    /// The image, written by that field manager. A server-side apply is imitated as an update.
    pub fn server_side_apply_image(&self, manager: &str, namespace: &str, name: &str, image: &str) {
        self.edit_deployment(manager, namespace, name, |deployment| {
            if let Some(place) = deployment.pointer_mut(IMAGE) {
                *place = image.into();
            }
        });
    }

    /// Any change of the pod template, as `kubectl edit` makes it.
    pub fn edit_template(&self, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.edit_deployment("kubectl-edit", namespace, name, |deployment| {
            if let Some(template) = deployment.pointer_mut("/spec/template") {
                change(template);
            }
        });
    }

    /// `kubectl scale`, or an autoscaler.
    pub fn scale(&self, namespace: &str, name: &str, replicas: i64) {
        self.edit_deployment("kube-controller-manager", namespace, name, |d| set(d, "/spec/replicas", replicas.into()));
    }

    /// `kubectl rollout pause`.
    pub fn pause(&self, namespace: &str, name: &str) {
        self.edit_deployment("kubectl-rollout", namespace, name, |d| set(d, "/spec/paused", true.into()));
    }

    /// `kubectl rollout resume`: the break-glass.
    pub fn resume(&self, namespace: &str, name: &str) {
        self.edit_deployment("kubectl-rollout", namespace, name, |d| json::remove(d, "/spec/paused"));
    }

    /// `kubectl rollout restart`; kubectl itself refuses while paused.
    pub fn rollout_restart(&self, namespace: &str, name: &str) -> Result<(), String> {
        self.refuse_paused(namespace, name, "restart")?;
        let now = self.api.clock().seconds();
        let place = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
        self.edit_deployment("kubectl-rollout", namespace, name, |d| set(d, place, now.into()));
        Ok(())
    }

    /// `kubectl rollout undo`: the template of the revision before; refused while paused.
    pub fn rollout_undo(&self, namespace: &str, name: &str) -> Result<(), String> {
        self.refuse_paused(namespace, name, "rollback")?;
        let template = self.api.read(|store| {
            let deployment = store.find(&DEPLOYMENT, namespace, name)?;
            let mine = |set: &&Value| owner::controller(set) == Some(json::uid(deployment));
            let number = |set: &Value| json::text(set, deployment::REVISION).parse::<i64>().unwrap_or(0);
            let mut sets: Vec<&Value> = store.list(&REPLICA_SET, namespace).filter(mine).collect();
            sets.sort_by_key(|set| number(set));
            sets.pop();
            sets.last().map(|set| set["spec"]["template"].clone())
        });
        let mut template = template.ok_or("no rollout history found")?;
        json::remove(&mut template, &format!("/metadata/labels/{}", deployment::HASH));
        self.edit_deployment("kubectl-rollout", namespace, name, |d| set(d, "/spec/template", template));
        Ok(())
    }

    fn refuse_paused(&self, namespace: &str, name: &str, what: &str) -> Result<(), String> {
        let paused = self.api.read(|store| store.find(&DEPLOYMENT, namespace, name).is_some_and(|d| flag(d, "/spec/paused")));
        if paused { Err(format!("can't {what} paused deployment (run rollout resume first)")) } else { Ok(()) }
    }

    /// `kubectl delete pod`, or an eviction.
    pub fn delete_pod(&self, namespace: &str, name: &str) {
        self.delete(&Key::new(&POD, namespace, name), &Deletion::default());
    }

    /// `kill -9` of the container of a pod.
    pub fn kill_container(&self, namespace: &str, name: &str) {
        let uid = self.api.read(|store| store.find(&POD, namespace, name).map(|pod| json::uid(pod).to_owned()));
        let uid = uid.unwrap_or_else(|| panic!("no pod {namespace}/{name}"));
        let mut brain = self.brain();
        if let Some(run) = brain.pods.get_mut(&uid) {
            run.kill();
        }
        brain.queue.add(super::Work::Pod(Key::new(&POD, namespace, name)), std::time::Duration::ZERO);
        drop(brain);
        self.api.wake();
    }

    /// `kubectl delete rs`.
    pub fn delete_replicaset(&self, namespace: &str, name: &str) {
        self.delete(&Key::new(&REPLICA_SET, namespace, name), &Deletion::default());
    }

    /// `kubectl delete deploy --cascade=…`.
    pub fn delete_deployment(&self, namespace: &str, name: &str, propagation: Propagation) {
        self.delete(&Key::new(&DEPLOYMENT, namespace, name), &Deletion::with(propagation));
    }

    /// Deletes any object; what is not there already is fine.
    pub fn delete(&self, key: &Key, how: &Deletion) -> Option<Refusal> {
        self.api.write(|store| store.delete(&Writer::new("kubectl-delete"), key, how)).err()
    }

    /// `kubectl apply` of a Service by its owner.
    pub fn reapply_service(&self, manifest: &Value) -> Result<bool, Refusal> {
        self.apply(manifest)
    }

    /// `kubectl delete namespace`.
    pub fn delete_namespace(&self, name: &str) {
        self.delete(&Key::new(&NAMESPACE, "", name), &Deletion::default());
    }

    /// Time of the cluster as text, for messages of tests.
    pub fn time(&self) -> String {
        clock::whole_seconds(self.api.clock().now())
    }
}
