//! Keys of `NamesrvConfig`. Source: NamesrvConfig (4.9.3).

use super::*;

/// The 6 keys of `NamesrvConfig`.
pub(super) const NAMESRV: &[Key] = keys! {
    path rocketmqHome = "ROCKETMQ_HOME" [computed ignored(HOME)]
        "Install directory; only conf/plain_acl.yml and conf/tools.yml are looked for there.";
    path kvConfigPath = "$HOME/namesrv/kvConfig.json" [computed used("namesrv")]
        "File of the key-value configuration.";
    path configStorePath = "$HOME/namesrv/namesrv.properties" [computed later(ADMIN)]
        "Where the update-config request writes; replaced by the -c file.";
    text productEnvName = "center" [ignored(CLUSTER_TEST)]
        "Cluster-test mode only.";
    flag clusterTest = "false" [ignored(CLUSTER_TEST)]
        "Fall back to another environment for unknown topics.";
    flag orderMessageEnable = "false" [live used("namesrv")]
        "Attach orderTopicConf to route answers.";
};
