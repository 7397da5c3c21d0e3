//! Registers the driver with the kubelet, which finds this service by its socket in `plugins_registry`. With it no
//! node-driver-registrar is needed.

use crate::error::Result;
use crate::proto::registration::*;
use crate::rpc;

/// The registration service.
#[derive(Debug)]
pub struct Registration {
    /// The driver's name.
    pub name: String,
    /// Path of the driver's socket, as the kubelet sees it.
    pub socket: String,
}

impl Registration {
    async fn info(&self, _request: InfoRequest) -> Result<PluginInfo> {
        Ok(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: self.name.clone(),
            endpoint: self.socket.clone(),
            supported_versions: vec!["1.0.0".to_owned()],
        })
    }

    async fn status(&self, request: RegistrationStatus) -> Result<RegistrationStatusResponse> {
        if request.plugin_registered {
            tracing::info!("the kubelet has registered the driver");
        } else {
            tracing::error!(error = request.error, "the kubelet has refused the driver");
        }
        Ok(RegistrationStatusResponse {})
    }
}

rpc::service!(registration_server::Registration, Registration {
    get_info: InfoRequest => PluginInfo, |_| "", info;
    notify_registration_status: RegistrationStatus => RegistrationStatusResponse, |_| "", status;
});
