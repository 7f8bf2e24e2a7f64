"""A store in AWS' Systems Manager: all of it is one SecureString parameter.  Needs boto3: pip install 'usernet[aws]'.

`arn:aws:ssm:REGION:ACCOUNT:parameter/NAME[?kmsKey=KEY]`.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final
from urllib.parse import parse_qsl

from proxy.state.store import NoValue, StoreError

MAX_BYTES: Final = 8 << 10  # of an advanced parameter
SECONDS: Final = 30.0  # for each request
TRIES: Final = 3  # of a request, by botocore
_ARN: Final = re.compile(r"arn:aws[a-z-]*:ssm:(?P<region>[a-z0-9-]+):\d{12}:parameter(?P<name>/[A-Za-z0-9_./-]+)")


class SsmStore:
    lasts = True

    def __init__(self, client: Any, name: str, where: str, kms_key: str | None = None) -> None:
        """Reads it.  Raises StoreError."""
        self.where = where
        self._client = client
        self._name = name
        self._kms_key = kms_key
        self._values = self._load()

    @classmethod
    def of(cls, where: str) -> SsmStore:
        arn, _, query = where.partition("?")
        found = _ARN.fullmatch(arn)
        if found is None:
            raise StoreError(f"--state {where}: write arn:aws:ssm:REGION:ACCOUNT:parameter/NAME[?kmsKey=KEY]")
        kms_key = _kms_key(query, where)
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise StoreError(f"--state {where}: boto3 is not here; pip install 'usernet[aws]'") from None
        limits = Config(connect_timeout=SECONDS, read_timeout=SECONDS, retries={"total_max_attempts": TRIES})
        try:
            client = boto3.Session().client("ssm", region_name=found["region"], config=limits)
        except BotoCoreError as error:  # as where AWS_PROFILE names none
            raise StoreError(f"--state {where}: {error}") from None
        return cls(client, found["name"], where, kms_key)

    def _failed(self, error: Exception, action: str) -> StoreError:
        code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
        remedy = ""
        if code == "AccessDeniedException":
            use = "kms:Decrypt" if action == "GetParameter" else "kms:Encrypt"
            remedy = f"; the role needs ssm:{action}, and {use} of the key"
        elif type(error).__name__ == "NoCredentialsError":
            remedy = "; give this machine a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return StoreError(f"--state {self.where}: {error}{remedy}")

    def _load(self) -> dict[str, bytes]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            text = self._client.get_parameter(Name=self._name, WithDecryption=True)["Parameter"]["Value"]
            return {str(key): base64.b64decode(value, validate=True) for key, value in json.loads(text).items()}
        except self._client.exceptions.ParameterNotFound:
            return {}
        except (BotoCoreError, ClientError) as error:
            raise self._failed(error, "GetParameter") from None
        except (ValueError, AttributeError, TypeError):
            raise StoreError(f"--state {self.where}: the parameter holds something else; name another") from None

    def read(self, key: str) -> bytes:
        try:
            return self._values[key]
        except KeyError:
            raise NoValue(key) from None

    def write(self, key: str, value: bytes) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        values = {**self._values, key: value}
        text = json.dumps({name: base64.b64encode(each).decode() for name, each in values.items()})
        if len(text) > MAX_BYTES:
            raise StoreError(f"--state {self.where}: {len(text)} bytes do not fit into the {MAX_BYTES} of a parameter")
        key_id = {"KeyId": self._kms_key} if self._kms_key else {}
        try:
            self._client.put_parameter(
                Name=self._name, Value=text, Type="SecureString", Overwrite=True, Tier="Intelligent-Tiering", **key_id
            )
        except (BotoCoreError, ClientError) as error:
            raise self._failed(error, "PutParameter") from None
        self._values = values


def _kms_key(query: str, where: str) -> str | None:
    """The only option that there is."""
    options = parse_qsl(query, keep_blank_values=True)
    for name, value in options:
        if name != "kmsKey":
            raise StoreError(f"--state {where}: there is no option {name}; the only one is kmsKey")
        if not value or len(options) > 1:
            raise StoreError(f"--state {where}: kmsKey names one key, by its id, alias or ARN")
    return options[0][1] if options else None
