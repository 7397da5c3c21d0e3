"""A second S3 client, unrelated to tarn: reads one JSON request a line, answers one JSON line each.

Requests: {"op": ..., "bucket": ..., "key": ...}. An answer is {"ok": ...} or {"error": CODE}.
"""

import base64
import concurrent.futures
import hashlib
import json
import os
import sys
import zlib

import boto3
import botocore.exceptions
from botocore.config import Config


def connect(**settings):
    return boto3.client(
        "s3",
        endpoint_url=os.environ["FOREIGN_ENDPOINT"],
        region_name="us-east-1",
        config=Config(
            s3={"addressing_style": "path"},
            proxies={},
            retries={"max_attempts": 2},
            max_pool_connections=8,
            **settings,
        ),
    )


client = connect()


def crc32c(body):
    total = 0xFFFFFFFF
    for byte in body:
        total ^= byte
        for _ in range(8):
            total = (total >> 1) ^ (0x82F63B78 if total & 1 else 0)
    return total ^ 0xFFFFFFFF


CHECKSUMS = {"CRC32": zlib.crc32, "CRC32C": crc32c}


def digest(bucket, key):
    total = hashlib.sha256()
    body = client.get_object(Bucket=bucket, Key=key)["Body"]
    for chunk in body.iter_chunks(1 << 20):
        total.update(chunk)
    return total.hexdigest()


def listed(bucket, prefix=""):
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def do_list(r):
    """Every object with its size and the SHA-256 of what a GET of it delivers."""
    entries = list(listed(r["bucket"]))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        sums = pool.map(lambda e: digest(r["bucket"], e["Key"]), entries)
        return [{"key": e["Key"], "size": e["Size"], "sha256": s} for e, s in zip(entries, sums)]


def do_keys(r):
    return [e["Key"] for e in listed(r["bucket"])]


def do_sizes(r):
    return {e["Key"]: e["Size"] for e in listed(r["bucket"], r["prefix"])}


def do_put(r):
    body = base64.b64decode(r["body"])
    client.put_object(Bucket=r["bucket"], Key=r["key"], Body=body, Metadata=r.get("metadata", {}))


def do_put_expiring(r):
    body = base64.b64decode(r["body"])
    client.put_object(Bucket=r["bucket"], Key=r["key"], Body=body, Expires=r["expires"])


def do_put_checked(r):
    """With one checksum beside it, or with none."""
    body, name = base64.b64decode(r["body"]), r["checksum"]
    sums = {}
    if name in CHECKSUMS:
        sums[f"Checksum{name}"] = base64.b64encode(CHECKSUMS[name](body).to_bytes(4, "big")).decode()
    plain = connect(request_checksum_calculation="when_required")
    plain.put_object(Bucket=r["bucket"], Key=r["key"], Body=body, **sums)


def do_tag(r):
    tags = {"TagSet": [{"Key": k, "Value": v} for k, v in r["tags"].items()]}
    client.put_object_tagging(Bucket=r["bucket"], Key=r["key"], Tagging=tags)


def do_tags(r):
    tags = client.get_object_tagging(Bucket=r["bucket"], Key=r["key"])["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in tags}


def do_get(r):
    return base64.b64encode(client.get_object(Bucket=r["bucket"], Key=r["key"])["Body"].read()).decode()


def do_head(r):
    head = client.head_object(Bucket=r["bucket"], Key=r["key"])
    return {
        "size": head["ContentLength"],
        "etag": head["ETag"],
        "type": head.get("ContentType", ""),
        "expires": head.get("ExpiresString", ""),
        "metadata": head["Metadata"],
    }


def do_delete(r):
    client.delete_object(Bucket=r["bucket"], Key=r["key"])


def do_session(r):
    """Temporary credentials of the same user, from STS."""
    sts = boto3.client("sts", endpoint_url=os.environ["FOREIGN_ENDPOINT"], region_name="us-east-1")
    role = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/any", RoleSessionName="tests")
    given = role["Credentials"]
    return {
        "access_key": given["AccessKeyId"],
        "secret_key": given["SecretAccessKey"],
        "token": given["SessionToken"],
    }


def do_create(r):
    client.create_bucket(Bucket=r["bucket"])


def do_prefixes(r):
    """The prefixes that a listing of this one shows, up to their slash."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=r["bucket"], Prefix=r["prefix"], Delimiter="/")
    return [p["Prefix"] for page in pages for p in page.get("CommonPrefixes", [])]


def uploads(bucket, **prefix):
    return client.list_multipart_uploads(Bucket=bucket, **prefix).get("Uploads", [])


def do_uploads(r):
    """Keys of the multipart uploads that nobody has completed or aborted.

    A key is asked for by itself: MinIO answers for a whole bucket from memory, and an upload whose last request was cut
    off by the death of its client stays in there when nothing of it is left (mpCache in cmd/erasure-server-pool.go).
    """
    keys = {u["Key"] for u in uploads(r["bucket"])}
    return sorted(u["Key"] for key in keys for u in uploads(r["bucket"], Prefix=key) if u["Key"] == key)


def abort_uploads(bucket):
    for upload in uploads(bucket):
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def do_abort(r):
    """Drops the multipart uploads that nobody has completed or aborted."""
    abort_uploads(r["bucket"])


def do_clear(r):
    """Removes all below a prefix."""
    keys = [{"Key": e["Key"]} for e in listed(r["bucket"], r["prefix"])]
    for start in range(0, len(keys), 1000):
        client.delete_objects(Bucket=r["bucket"], Delete={"Objects": keys[start : start + 1000]})


def do_drop(r):
    """Removes a bucket with all that is in it."""
    do_clear({"bucket": r["bucket"], "prefix": ""})
    abort_uploads(r["bucket"])
    client.delete_bucket(Bucket=r["bucket"])


OPERATIONS = {name[3:]: call for name, call in list(globals().items()) if name.startswith("do_")}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = {"ok": OPERATIONS[request["op"]](request)}
    except botocore.exceptions.ClientError as error:
        answer = {"error": error.response["Error"]["Code"]}
    except Exception as error:  # the test shall see it, whatever it is
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
