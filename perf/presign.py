"""Signs URLs, so that curl can be the raw client: no S3 client of ours or of others stands between it and the server.

Usage: presign.py get BUCKET KEY | presign.py put BUCKET KEY PARTS. Prints JSON.
"""

import json
import os
import sys

import boto3
from botocore.config import Config

client = boto3.client(
    "s3",
    endpoint_url=os.environ["PERF_ENDPOINT"],
    region_name="us-east-1",
    config=Config(
        s3={"addressing_style": "path"},
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        proxies={},
    ),
)


def sign(method, **params):
    return client.generate_presigned_url(method, Params=params, ExpiresIn=3600)


def get(bucket, key):
    return {"url": sign("get_object", Bucket=bucket, Key=key)}


def put(bucket, key, parts):
    upload = {"Bucket": bucket, "Key": key}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    numbers = range(1, int(parts) + 1)
    return {
        "parts": [sign("upload_part", PartNumber=number, **upload) for number in numbers],
        "complete": sign("complete_multipart_upload", **upload),
    }


print(json.dumps({"get": get, "put": put}[sys.argv[1]](*sys.argv[2:])))
