"""Which files' text may be used at all: completed in, copied from, indexed.

Three lists say no, and none takes back what another says: the names under which secrets are kept, which nobody can
shorten, so that no workspace's settings can; the user's `disabledGlobs`; and the `.inpaintignore` in each folder above
the file. Case does not count. The last two are in the syntax of .gitignore; a glob without a leading slash may match
anywhere in the path. An `.inpaintignore` that cannot be read excludes all that it might name.

Who has written the rules may mean harm: they are matched by RE2, which cannot backtrack, and are few and short. Where
nothing may wait, what rules say of a file is found out beside; until then it may not be read.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import translate
from functools import lru_cache
from pathlib import Path, PurePath
from typing import NamedTuple, TypeAlias

from pathspec import GitIgnoreSpec

logger = logging.getLogger(__name__)

IGNORE_FILE = ".inpaintignore"
LARGEST, MOST = 1 << 16, 2_000  # bytes, and lines, of rules
LONGEST, NAME = 4_096, 255  # characters of a path, and of a file's name
COPIES = 3  # of copies of a file
DECISIONS = 10_000  # that are remembered

# what scanners of repositories (gitrob, shhgit, gitleaks) look for by name, and GitHub's .gitignore templates keep out
SECRET_NAMES = """
    .env .env[-_.]* *.env .envrc .flaskenv env.local .netrc _netrc .authinfo .pgpass pgpass.conf .my.cnf .mylogin.cnf
    .git-credentials .htpasswd .htdigest .pypirc .npmrc .yarnrc.yml .dockercfg .dockerconfigjson .boto .s3cfg
    .terraformrc terraform.rc .tugboat .vault-token .token *vault_pass* .vault-password* *.tfvars *.tfvars.json
    *.tfstate *.tfstate.* *.pem *.key *.ppk *.p8 *.p12 *.pfx *.pkcs12 *.p7b *.der *.jks *.jceks *.bks *.keystore
    *.keyring *.keychain *.keychain-db *.kdb *.kdbx *.psafe3 *.agilekeychain *.opvault *.kwallet *.asc *.gpg *.pgp
    *.ovpn *.rdp *.bek *.snk *.mobileprovision *.publishsettings *.pubxml.user *.azurepubxml *.cscfg *.agekey *.wallet
    id_rsa* id_dsa* id_ecdsa* id_ed25519* *_rsa *_dsa *_ecdsa *_ed25519 ssh_host_*_key known_hosts otr.private_key
    *.credentials *.secret *.secrets credentials.tfrc.json accesstokens.json client_secret*.json client-secret*.json
    service_account*.json service-account*.json serviceaccount*.json *serviceaccountkey*.json google-services.json
    googleservice-info.plist *accesskeys.csv rootkey.csv kubeconfig *.kubeconfig rclone.conf kaggle.json heroku.json
    auth.json secret_token.rb secret_key_base master.key vault.y*ml hudson.util.secret shadow proftpdpasswd wallet.dat
    logins.json key3.db key4.db signons.sqlite local.settings.json appsettings.*.json web.*.config database.yml
    wp-config.php localsettings.php filezilla.xml recentservers.xml sitemanager.xml sftp-config.json sftp.json
    .ftpconfig .remote-sync.json winscp.ini *dbeaver-data-sources*.xml datasources.local.xml robomongo.json .muttrc
    .msmtprc .fetchmailrc .mailrc .*_history fish_history .histfile .dbshell .viminfo .lesshst
"""
# words in names of data, not of source code; "key" is the last of several, as in gcp-key.json and deploy_key
SECRET_WORDS = re.compile(
    r"(.*-)?(credentials?|secrets?|passwords?|passwd|tokens?|api-?keys?|kubeconfig)(-.*)?|.+-keys?", re.IGNORECASE
)
DATA = re.compile(r"(\.(json[5cl]?|toml|ya?ml|txt|xml|ini|cfg|conf|properties|plist|[ct]sv|enc))?", re.IGNORECASE)
COPY = re.compile(r"(.)([-._ ](bak|backup|old|orig|saved?|swp|tmp|copy|enc|\d+)|~)$", re.IGNORECASE)  # of another file
BETWEEN_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|[-._ ]+")
SECRET_LANGUAGES = frozenset({"dotenv", "env", "netrc", "pem"})  # whatever the text is called
SECRET_PLACES = """
    .ssh/ .gnupg/ .password-store/ .aws/ .azure/ .oci/ .bluemix/ .kube/ .config/gcloud/ .config/gh/ .config/hub
    .config/rclone/ .docker/config.json .gem/credentials .bundle/config .cargo/credentials* .composer/auth.json
    .nuget/nuget.config .m2/settings*.xml .gradle/gradle.properties .pip/pip.conf .doctl/ .fly/ .netlify/ .vercel/
    .railway/ .heroku/ .huggingface/token .kaggle/ .irssi/
"""
SECRET = re.compile("|".join(map(translate, SECRET_NAMES.split())))
TEMPLATE = re.compile(r"\.env\.(example|sample|template|dist|defaults)")  # to be filled in: it holds no secret


class IgnoreFile(NamedTuple):
    """One as it was at a time of its last change, in nanoseconds; its size is in bytes."""

    path: str
    changed: int
    size: int


Rules: TypeAlias = IgnoreFile | tuple[str, ...]  # or a user's globs

_decided: dict[tuple[Rules, str], bool] = {}  # what rules say of a name
_beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="exclusions")


def may_read(file: PurePath, globs: tuple[str, ...] = (), wait: bool = True) -> bool:
    """Whether the text of a file may be used, by its path and by the one that it leads to over links.

    `globs` are the user's. A relative path has no folders to look into. One that is none, or that no system has, may
    not. Where not `wait`, nothing is done that may take more than a moment.
    """
    try:
        possible = len(str(file)) <= LONGEST and len(file.name) <= NAME
        return possible and not any(_excluded(name, globs, wait) for name in names(file))
    except ValueError:  # it has a character that no path has
        return False


def _excluded(file: PurePath, globs: tuple[str, ...], wait: bool) -> bool:
    if is_secret(file) or (globs and _names(globs, file.as_posix().lower(), wait)):
        return True
    return any(_ignored(ignore, name, wait) for ignore, name in above(file))


@lru_cache(maxsize=4096)  # these three are asked of several documents at every key
def is_secret(file: PurePath, language: str = "") -> bool:
    """Whether secrets are kept in a file, by its path and LSP's name of its language. A copy is one as the file is."""
    if TEMPLATE.fullmatch(file.name.lower()):
        return False
    if language in SECRET_LANGUAGES or anywhere(tuple(SECRET_PLACES.split())).match_file(file.as_posix().lower()):
        return True
    names = [file.name]
    for _ in range(COPIES):
        names.append(COPY.sub(r"\1", names[-1]))
    return any(SECRET.fullmatch(name.lower()) or _says_secret(PurePath(name)) for name in names)


def _says_secret(name: PurePath) -> bool:
    data = DATA.fullmatch(name.suffix) is not None
    return data and SECRET_WORDS.fullmatch(BETWEEN_WORDS.sub("-", name.stem)) is not None


@lru_cache(maxsize=4096)
def names(file: PurePath) -> tuple[PurePath, ...]:
    """The file's path, and the one it leads to over links. Raises ValueError where it is none."""
    real = Path(os.path.realpath(file)) if file.is_absolute() else file
    return (file,) if real == file else (file, real)


@lru_cache(maxsize=4096)
def above(file: PurePath) -> list[tuple[str, str]]:
    """The places of the ignore files that may name a file, and what the file is called in each."""
    folders = file.parents if file.is_absolute() else ()
    return [(str(folder / IGNORE_FILE), file.relative_to(folder).as_posix().lower()) for folder in folders]


@lru_cache(maxsize=8)
def anywhere(globs: tuple[str, ...]) -> GitIgnoreSpec:
    """Globs in which only a leading slash ties to the root of the file system. Raises ValueError for what is none."""
    return rules_of(re.sub(r"^(!?)(?=[^!/#])", r"\1**/", glob.strip().lower()) for glob in globs)


def rules_of(lines: Iterable[str]) -> GitIgnoreSpec:
    """Raises ValueError where one is none, or they are too many."""
    few = list(itertools.islice(lines, MOST + 1))
    if len(few) > MOST or sum(len(line) + 1 for line in few) > LARGEST:
        raise ValueError(f"more than {MOST} lines or {LARGEST} bytes")
    try:
        return GitIgnoreSpec.from_lines(few, backend="re2")
    except Exception as error:  # of pathspec, of Python's patterns and of RE2's, which have no common base
        raise ValueError(str(error)) from error


def _ignored(ignore: str, name: str, wait: bool) -> bool:
    """Whether there is an ignore file there that names a file."""
    try:
        found = os.stat(ignore)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    readable = stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST  # a pipe would never end
    return not readable or _names(IgnoreFile(ignore, found.st_mtime_ns, found.st_size), name, wait)


def _names(rules: Rules, name: str, wait: bool) -> bool:
    """Whether rules name a file; where that is not known and nobody waits, it is found out beside."""
    decided = _decided.get((rules, name))
    if decided is None and not wait:
        _beside.submit(_decide, rules, name)
    elif decided is None:
        decided = _decide(rules, name)
    return decided is not False


def _decide(rules: Rules, name: str) -> bool:
    if (decided := _decided.get((rules, name))) is None:
        spec = ignore_file(rules) if isinstance(rules, IgnoreFile) else anywhere(rules)
        decided = spec is None or spec.match_file(name)
        if len(_decided) >= DECISIONS:
            _decided.clear()
        _decided[rules, name] = decided
    return decided


@lru_cache(maxsize=64)
def ignore_file(file: IgnoreFile) -> GitIgnoreSpec | None:
    """Its rules; None where it cannot be read."""
    try:
        return rules_of(Path(file.path).read_text("utf-8-sig").lower().splitlines())
    except (OSError, ValueError) as error:  # no permission, no UTF-8, no pattern
        logger.error("%s cannot be read (%s): nothing below it is completed.", file.path, error)
        return None
