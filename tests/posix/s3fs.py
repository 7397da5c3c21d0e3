"""The other client of s3fs's integration test, in place of curl: the curl of Debian 12 signs some headers wrongly.

s3fs.py METHOD BUCKET/KEY [--header 'NAME: VALUE']... [--dump-header FILE]

Prints the headers of the answer, as `curl --head` does, and reads the body of a PUT from standard input.
"""

import argparse
import os
import sys
import urllib.error
import urllib.request

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

parser = argparse.ArgumentParser()
parser.add_argument("method")
parser.add_argument("path")
parser.add_argument("--header", action="append", default=[])
parser.add_argument("--dump-header")
asked = parser.parse_args()

body = sys.stdin.buffer.read() if asked.method == "PUT" else b""
headers = dict(line.split(": ", 1) for line in asked.header)
request = AWSRequest(asked.method, f"{os.environ['S3_URL']}/{asked.path}", data=body, headers=headers)
credentials = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
S3SigV4Auth(credentials, "s3", os.environ["S3_ENDPOINT"]).add_auth(request)
signed = urllib.request.Request(request.url, body, dict(request.headers), method=asked.method)
try:
    answer = urllib.request.urlopen(signed)
except urllib.error.HTTPError as error:
    sys.exit(f"{asked.method} {asked.path}: {error}")
lines = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
if asked.dump_header:
    with open(asked.dump_header, "w", encoding="utf-8") as to:
        to.write(lines)
else:
    sys.stdout.write(lines)
