"""Which files' text may be used at all: completed in, copied from, indexed.

Three lists say no, and none takes back what another says: the names under which secrets are kept, which nobody can
shorten, so that no workspace's settings can; the user's `disabledGlobs`; and the `.inpaintignore` in each folder above
the file. Case does not count. The last two are in the syntax of .gitignore; a glob without a leading slash may match
anywhere in the path. An `.inpaintignore` that cannot be read excludes all that it might name.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from fnmatch import translate
from functools import lru_cache
from pathlib import Path, PurePath

from pathspec import GitIgnoreSpec

logger = logging.getLogger(__name__)

IGNORE_FILE = ".inpaintignore"
LARGEST = 1 << 20  # bytes of one

# what scanners of repositories (gitrob, shhgit, gitleaks) look for by name, and GitHub's .gitignore templates keep out
SECRET_NAMES = """
    .env .env.* *.env .envrc .flaskenv env.local .netrc _netrc .authinfo .pgpass pgpass.conf .my.cnf .mylogin.cnf
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
SECRET_DATA = (  # by these words, where it is data and no source code
    r"((.*[-._])?(credentials?|secrets?|passwords?|passwd|api[-_]?keys?)|token)"
    r"(\.(json|toml|ya?ml|txt|xml|ini|cfg|conf|properties|csv|enc)(\.enc)?)?"
)
SECRET_PLACES = """
    .ssh/ .gnupg/ .password-store/ .aws/ .azure/ .oci/ .bluemix/ .kube/ .config/gcloud/ .config/gh/ .config/hub
    .config/rclone/ .docker/config.json .gem/credentials .bundle/config .cargo/credentials* .composer/auth.json
    .nuget/nuget.config .m2/settings*.xml .gradle/gradle.properties .pip/pip.conf .doctl/ .fly/ .netlify/ .vercel/
    .railway/ .heroku/ .huggingface/token .kaggle/ .irssi/
"""
SECRET = re.compile("|".join([*map(translate, SECRET_NAMES.split()), SECRET_DATA]))
TEMPLATE = re.compile(r"\.env\.(example|sample|template|dist|defaults)")  # to be filled in: it holds no secret


def may_read(file: PurePath, globs: tuple[str, ...] = ()) -> bool:
    """Whether the text of a file may be used, by its path and by the one that it leads to over links.

    `globs` are the user's. A relative path has no folders to look into.
    """
    return not any(named_by(globs, name) or any(map(ignored, *above(name))) for name in names(file))


@lru_cache(maxsize=4096)  # these three are asked of several documents at every key
def names(file: PurePath) -> tuple[PurePath, ...]:
    """The file's path, and the one it leads to over links."""
    real = Path(os.path.realpath(file)) if file.is_absolute() else file
    return (file,) if real == file else (file, real)


@lru_cache(maxsize=4096)
def named_by(globs: tuple[str, ...], file: PurePath) -> bool:
    """Whether a file is one of the secrets, or of the user's globs."""
    name, path = file.name.lower(), file.as_posix().lower()
    secret = SECRET.fullmatch(name) is not None and TEMPLATE.fullmatch(name) is None
    return secret or anywhere(tuple(SECRET_PLACES.split())).match_file(path) or anywhere(globs).match_file(path)


@lru_cache(maxsize=4096)
def above(file: PurePath) -> tuple[list[str], list[str]]:
    """The places of the ignore files that may name a file, and what the file is called in each."""
    folders = list(file.parents) if file.is_absolute() else []
    return [str(f / IGNORE_FILE) for f in folders], [file.relative_to(f).as_posix().lower() for f in folders]


@lru_cache(maxsize=8)
def anywhere(globs: tuple[str, ...]) -> GitIgnoreSpec:
    """Globs in which only a leading slash ties to the root of the file system. Raises ValueError for what is none."""
    return GitIgnoreSpec.from_lines(re.sub(r"^(!?)(?=[^!/#])", r"\1**/", glob.strip().lower()) for glob in globs)


def ignored(ignore: str, name: str) -> bool:
    """Whether there is an ignore file there that names a file."""
    try:
        found = os.stat(ignore)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True
    readable = stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST  # a pipe would never end
    spec = ignore_file(ignore, found.st_mtime_ns, found.st_size) if readable else None
    return spec is None or spec.match_file(name)


@lru_cache(maxsize=64)
def ignore_file(path: str, modified: int, size: int) -> GitIgnoreSpec | None:
    """The rules of an ignore file as it is now; None where it cannot be read."""
    try:
        return GitIgnoreSpec.from_lines(Path(path).read_text("utf-8-sig").lower().splitlines())
    except (OSError, ValueError) as error:  # no permission, no UTF-8, no pattern
        logger.error("%s cannot be read (%s): nothing below it is completed.", path, error)
        return None
