//! EC2, by its SDK. The only place that knows it.

mod answer;
mod connect;
mod error;
mod identity;

pub use connect::Ec2Settings;
pub use identity::Identity;

use super::Cloud;
use crate::error::{CloudErrorKind, Error, Result};
use crate::id::{DeviceName, InstanceId, Owner, VolumeId};
use crate::plan::{Change, NewVolume};
use crate::spec::{Encryption, VolumeType};
use crate::state::{Instance, OWNER, Tags, Volume};
use answer::TypeLimits;
use async_trait::async_trait;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification, VolumeType as ApiType};
use error::Call;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// EC2 takes so many values in one filter.
const FILTER_VALUES: usize = 200;

/// The volumes of an account in a region.
#[derive(Debug)]
pub struct Ec2 {
    client: Client,
    /// What instance types can do never changes.
    types: Mutex<BTreeMap<String, TypeLimits>>,
}

impl Ec2 {
    /// Prepares to talk to EC2; nothing is sent yet.
    pub async fn connect(settings: &Ec2Settings) -> Result<Self> {
        Ok(Self { client: connect::client(settings).await?, types: Mutex::default() })
    }

    /// Adds the last modification to each volume that had one, as far as EC2 remembers it.
    async fn add_modifications(&self, volumes: &mut [Volume]) -> Result<()> {
        let mut modifications = BTreeMap::new();
        let ids: Vec<String> = volumes.iter().map(|volume| volume.id.to_string()).collect();
        for chunk in ids.chunks(FILTER_VALUES) {
            let request = self.client.describe_volumes_modifications().filters(filter("volume-id", chunk));
            let pages = request.into_paginator().items().send().collect::<std::result::Result<Vec<_>, _>>();
            let listed = pages.await.map_err(Call("DescribeVolumesModifications").error())?;
            for modification in listed {
                // The latest comes first.
                if let Some(id) = modification.volume_id().map(str::to_owned) {
                    modifications.entry(id).or_insert(modification);
                }
            }
        }
        for volume in volumes {
            volume.modification = modifications.get(volume.id.as_str()).and_then(answer::modification);
        }
        Ok(())
    }

    /// Learns what these instance types can do.
    async fn learn_types(&self, names: BTreeSet<String>) -> Result<()> {
        let unknown: Vec<String> = {
            let types = self.types.lock();
            names.into_iter().filter(|name| !types.contains_key(name)).collect()
        };
        for chunk in unknown.chunks(FILTER_VALUES) {
            let request = self.client.describe_instance_types().filters(filter("instance-type", chunk));
            let pages = request.into_paginator().items().send().collect::<std::result::Result<Vec<_>, _>>();
            let listed = pages.await.map_err(Call("DescribeInstanceTypes").error())?;
            let mut types = self.types.lock();
            for info in &listed {
                if let Some(name) = info.instance_type() {
                    types.insert(name.as_str().to_owned(), answer::limits(info));
                }
            }
        }
        Ok(())
    }

    /// Asks whether calls that change a volume would be allowed, on one that there is.
    async fn denied_on(&self, volume: &Volume, instance: &InstanceId) -> Result<Vec<&'static str>> {
        let (client, id, to) = (&self.client, volume.id.as_str(), instance.as_str());
        let tag = tag(OWNER, "dry run");
        let device = "/dev/xvddx";
        let answers = [
            ("ec2:AttachVolume", {
                let call = client.attach_volume().volume_id(id).instance_id(to).device(device);
                error::is_denied("AttachVolume", call.dry_run(true).send().await)?
            }),
            ("ec2:CreateTags", {
                let call = client.create_tags().resources(id).tags(tag);
                error::is_denied("CreateTags", call.dry_run(true).send().await)?
            }),
            ("ec2:DeleteVolume", {
                let call = client.delete_volume().volume_id(id);
                error::is_denied("DeleteVolume", call.dry_run(true).send().await)?
            }),
            ("ec2:DetachVolume", {
                let call = client.detach_volume().volume_id(id).instance_id(to);
                error::is_denied("DetachVolume", call.dry_run(true).send().await)?
            }),
            ("ec2:ModifyVolume", {
                let call = client.modify_volume().volume_id(id).size(size(volume.size.0));
                error::is_denied("ModifyVolume", call.dry_run(true).send().await)?
            }),
        ];
        Ok(answers.into_iter().filter(|(_, denied)| *denied).map(|(name, _)| name).collect())
    }
}

#[async_trait]
impl Cloud for Ec2 {
    async fn volumes(&self, owner: &Owner) -> Result<Vec<Volume>> {
        let owned = filter(&format!("tag:{OWNER}"), &[owner.to_string()]);
        let pages = self.client.describe_volumes().filters(owned).into_paginator().items().send();
        let listed = pages.collect::<std::result::Result<Vec<_>, _>>().await;
        let listed = listed.map_err(Call("DescribeVolumes").error())?;
        let mut volumes = listed.iter().map(answer::volume).collect::<Result<Vec<Volume>>>()?;
        self.add_modifications(&mut volumes).await?;
        Ok(volumes)
    }

    async fn instances(&self, ids: &[InstanceId]) -> Result<Vec<Instance>> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let mut listed = Vec::new();
        // By filter, not by id: one id that is not known would make the whole call fail.
        for chunk in ids.chunks(FILTER_VALUES) {
            let request = self.client.describe_instances().filters(filter("instance-id", chunk));
            let pages = request.into_paginator().items().send().collect::<std::result::Result<Vec<_>, _>>();
            let reservations = pages.await.map_err(Call("DescribeInstances").error())?;
            listed.extend(
                reservations.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default()),
            );
        }
        let names = listed.iter().filter_map(|instance| instance.instance_type());
        self.learn_types(names.map(|name| name.as_str().to_owned()).collect()).await?;
        let types = self.types.lock();
        listed.iter().map(|instance| answer::instance(instance, &types)).collect()
    }

    async fn create(&self, owner: &Owner, new: &NewVolume) -> Result<VolumeId> {
        let request = self.create_request(owner, new).client_token(&new.token);
        let made = request.send().await.map_err(Call("CreateVolume").error())?;
        answer::id("CreateVolume", made.volume_id())
    }

    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &DeviceName) -> Result<()> {
        let request = self.client.attach_volume().volume_id(volume.as_str()).instance_id(instance.as_str());
        request.device(device.as_str()).send().await.map(drop).map_err(Call("AttachVolume").error())
    }

    async fn detach(&self, volume: &VolumeId, instance: &InstanceId) -> Result<()> {
        let request = self.client.detach_volume().volume_id(volume.as_str()).instance_id(instance.as_str());
        let done = request.send().await.map(drop).map_err(Call("DetachVolume").error());
        gone_is_fine(done, &["IncorrectState", "InvalidAttachment.NotFound", "InvalidVolume.NotFound"])
    }

    async fn delete(&self, volume: &VolumeId) -> Result<()> {
        let request = self.client.delete_volume().volume_id(volume.as_str());
        let done = request.send().await.map(drop).map_err(Call("DeleteVolume").error());
        gone_is_fine(done, &["InvalidVolume.NotFound"])
    }

    async fn modify(&self, volume: &VolumeId, change: &Change) -> Result<()> {
        let request = self
            .client
            .modify_volume()
            .volume_id(volume.as_str())
            .size(size(change.size.0))
            .volume_type(api_type(change.volume_type))
            .set_iops(change.iops.map(size))
            .set_throughput(change.throughput.map(size));
        request.send().await.map(drop).map_err(Call("ModifyVolume").error())
    }

    async fn tag(&self, owner: &Owner, volume: &VolumeId, tags: &Tags) -> Result<()> {
        let tags = tags.write(owner).iter().map(|(key, value)| tag(key, value)).collect();
        let request = self.client.create_tags().resources(volume.as_str()).set_tags(Some(tags));
        request.send().await.map(drop).map_err(Call("CreateTags").error())
    }

    async fn denied(&self, owner: &Owner, new: &NewVolume) -> Result<Vec<&'static str>> {
        let client = &self.client;
        let mut denied = Vec::new();
        let reads = [
            ("ec2:DescribeInstances", {
                error::is_denied("DescribeInstances", client.describe_instances().dry_run(true).send().await)?
            }),
            ("ec2:DescribeInstanceTypes", {
                let call = client.describe_instance_types().dry_run(true).send().await;
                error::is_denied("DescribeInstanceTypes", call)?
            }),
            ("ec2:DescribeVolumes", {
                error::is_denied("DescribeVolumes", client.describe_volumes().dry_run(true).send().await)?
            }),
            ("ec2:DescribeVolumesModifications", {
                let call = client.describe_volumes_modifications().dry_run(true).send().await;
                error::is_denied("DescribeVolumesModifications", call)?
            }),
            ("ec2:CreateVolume", {
                let call = self.create_request(owner, new).dry_run(true).send().await;
                error::is_denied("CreateVolume", call)?
            }),
        ];
        denied.extend(reads.into_iter().filter(|(_, denied)| *denied).map(|(name, _)| name));
        if denied.contains(&"ec2:DescribeVolumes") {
            return Ok(denied);
        }
        // Permission to change a volume usually depends on its tags, so it takes one of ours to find out.
        if let Some(volume) = self.volumes(owner).await.unwrap_or_default().first() {
            denied.extend(self.denied_on(volume, &new.tags.instance).await?);
        }
        Ok(denied)
    }
}

impl Ec2 {
    fn create_request(
        &self,
        owner: &Owner,
        new: &NewVolume,
    ) -> aws_sdk_ec2::operation::create_volume::builders::CreateVolumeFluentBuilder {
        let own = new.tags.write(owner);
        let name = ("Name".to_owned(), format!("tarn cache of {}", new.tags.node));
        let all = BTreeMap::from([name]).into_iter().chain(new.user_tags.clone()).chain(own);
        // A later one of the same key wins.
        let tags = all.collect::<BTreeMap<_, _>>().iter().map(|(key, value)| tag(key, value)).collect();
        let specification =
            TagSpecification::builder().resource_type(ResourceType::Volume).set_tags(Some(tags)).build();
        let (encrypted, key) = match &new.encryption {
            Encryption::AccountDefault => (None, None),
            Encryption::Encrypted(key) => (Some(true), key.clone()),
        };
        self.client
            .create_volume()
            .availability_zone(new.zone.as_str())
            .volume_type(api_type(new.volume_type))
            .size(size(new.size.0))
            .set_iops(new.iops.map(size))
            .set_throughput(new.throughput.map(size))
            .set_encrypted(encrypted)
            .set_kms_key_id(key)
            .tag_specifications(specification)
    }
}

fn gone_is_fine(done: Result<()>, codes: &[&str]) -> Result<()> {
    match done {
        Err(Error::Cloud { kind: CloudErrorKind::NotFound | CloudErrorKind::State, message, .. })
            if codes.iter().any(|code| message.starts_with(&format!("{code}:"))) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn filter(name: &str, values: &[String]) -> Filter {
    Filter::builder().name(name).set_values(Some(values.to_vec())).build()
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build()
}

fn api_type(kind: VolumeType) -> ApiType {
    match kind {
        VolumeType::Gp3 => ApiType::Gp3,
        VolumeType::Io1 => ApiType::Io1,
        VolumeType::Io2 => ApiType::Io2,
        VolumeType::St1 => ApiType::St1,
        VolumeType::Sc1 => ApiType::Sc1,
    }
}

/// The API's numbers are signed; ours are within its bounds.
fn size(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
