//! The identity service: who this is and what it serves.

use crate::driver::{Driver, VERSION};
use crate::error::Result;
use crate::proto::*;
use crate::rpc;
use std::collections::HashMap;
use std::sync::Arc;

/// The identity service.
#[derive(Debug)]
pub struct Identity {
    /// The driver.
    pub driver: Arc<Driver>,
}

impl Identity {
    async fn info(&self, _request: GetPluginInfoRequest) -> Result<GetPluginInfoResponse> {
        Ok(GetPluginInfoResponse {
            name: self.driver.name.clone(),
            vendor_version: VERSION.to_owned(),
            manifest: HashMap::new(),
        })
    }

    async fn capabilities(
        &self,
        _request: GetPluginCapabilitiesRequest,
    ) -> Result<GetPluginCapabilitiesResponse> {
        use plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
        let controller = Type::Service(Service { r#type: service::Type::ControllerService.into() });
        let expansion =
            Type::VolumeExpansion(VolumeExpansion { r#type: volume_expansion::Type::Online.into() });
        let one = |can: Type| PluginCapability { r#type: Some(can) };
        Ok(GetPluginCapabilitiesResponse { capabilities: vec![one(controller), one(expansion)] })
    }

    /// The driver has no state that could be broken: if it answers, it is ready.
    async fn probe(&self, _request: ProbeRequest) -> Result<ProbeResponse> {
        Ok(ProbeResponse { ready: Some(true) })
    }
}

rpc::service!(identity_server::Identity, Identity {
    get_plugin_info: GetPluginInfoRequest => GetPluginInfoResponse, |_| "", info;
    get_plugin_capabilities: GetPluginCapabilitiesRequest => GetPluginCapabilitiesResponse, |_| "", capabilities;
    probe: ProbeRequest => ProbeResponse, |_| "", probe;
});
