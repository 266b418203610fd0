# The sandbox alone, for the tests of shops in any language. Build it at the root of the repository:
#   docker build -f examples/sandbox.Dockerfile -t wxpay-sandbox .
#   docker run --rm -p 127.0.0.1:8080:8080 -v wxpay-sandbox:/data wxpay-sandbox
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY wxpay_async ./wxpay_async
RUN pip install --no-cache-dir ".[cli,sandbox]" \
    && useradd --create-home --uid 10001 sandbox \
    && install --directory --owner=sandbox --mode=0700 /data

USER sandbox
WORKDIR /data
VOLUME /data
ENV PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/openapi.json')"]
ENTRYPOINT ["wxpay-async", "sandbox", "--host", "0.0.0.0", "--allow-remote", "--keys", "/data/keys", "--state", "/data/state.json"]
CMD ["--app-secret", "sandbox-app-secret"]
