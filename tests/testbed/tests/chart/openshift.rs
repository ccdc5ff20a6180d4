//! Where the platform gives each namespace users of its own.

use serde_json::{Value, json};
use testbed::ControlPlane;

use super::{objects, render, the};

#[tokio::test]
async fn no_fixed_user_where_the_platform_gives_one_and_all_else_stays() {
    let cluster = ControlPlane::start().await.unwrap();
    let openshift = ["--api-versions", "security.openshift.io/v1"];
    let own = json!({ "podSecurityContext": { "fsGroup": 65532, "supplementalGroups": [1] } });
    let own_and = |adapt: &str| {
        let mut values = own.clone();
        values["securityContext"] = json!({ "adapt": adapt, "runAsUser": 65532 });
        values
    };
    for (adapt, more, adapts) in [
        ("auto", &[][..], false),
        ("auto", &openshift[..], true),
        ("never", &openshift[..], false),
        ("always", &[][..], true),
    ] {
        let yaml = render(&cluster, &own_and(adapt), more).await.unwrap();
        let all = objects(&cluster, &yaml).await;
        let pods = [
            &the(&all, "Deployment")["spec"]["template"]["spec"],
            &the(&all, "Job")["spec"]["template"]["spec"],
            &the(&all, "Pod")["spec"],
        ];
        for pod in pods {
            let (of_pod, of_container) = (&pod["securityContext"], &pod["containers"][0]["securityContext"]);
            for field in
                [&of_pod["runAsUser"], &of_pod["runAsGroup"], &of_pod["fsGroup"], &of_container["runAsUser"]]
            {
                let expected = if adapts { Value::Null } else { json!(65532) };
                assert_eq!(field, &expected, "{adapt} {more:?}: {pod}");
            }
            assert_eq!(of_pod["runAsNonRoot"], true);
            assert_eq!(of_pod["supplementalGroups"], json!([1]));
            assert_eq!(of_container["readOnlyRootFilesystem"], true);
            assert_eq!(of_container["adapt"], Value::Null);
        }
    }
    cluster.stop().await.unwrap();
}
