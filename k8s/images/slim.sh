#!/bin/sh
# Removes from a site-packages folder what no process of the orchestrator image loads; it must stay below 500 MB.
# The model images are not treated: a few hundred MB are little beside their CUDA libraries, and torch and transformers
# load more lazily than a list could keep up with.
#
# Usage: slim.sh SITE_PACKAGES
set -eu

cd "$1"

# Test suites of pandas, numpy, pyarrow and the like: 58 MB.
find . -type d -name tests -prune -exec rm -rf {} +

# Descriptions of every Google API, read by `discovery.build`; Dagster's GCS parts use google-cloud-storage: 108 MB.
rm -rf googleapiclient/discovery_cache/documents

# The second, asynchronous Kubernetes client; Dagster uses the other one: 39 MB.
rm -rf kubernetes/aio

# Arrow over the network, in S3, and its C++ headers; GCS is read through gcsfs: 56 MB.
rm -rf pyarrow/libarrow_flight.so.* pyarrow/libarrow_python_flight.so* pyarrow/_flight.*.so pyarrow/libarrow_s3.so.* pyarrow/_s3fs.*.so pyarrow/include

# What a browser's developer tools would show of the UI: 22 MB.
find dagster_webserver -name '*.map' -delete 2>/dev/null || true
