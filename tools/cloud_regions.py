"""Regions of clouds as the label topology.kubernetes.io/region of Nodes names them, by country (ISO 3166).

Read on 2 December 2026 in the providers' lists, whose addresses stand in tests/golden/cloud_regions.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_AWS: Final = {
    "ARE": "me-central-1",
    "AUS": "ap-southeast-2 ap-southeast-4",
    "BHR": "me-south-1",
    "BRA": "sa-east-1",
    "CAN": "ca-central-1 ca-west-1",
    "CHE": "eu-central-2",
    "CHN": "cn-north-1 cn-northwest-1",
    "DEU": "eu-central-1 eusc-de-east-1",
    "ESP": "eu-south-2",
    "FRA": "eu-west-3",
    "GBR": "eu-west-2",
    "HKG": "ap-east-1",
    "IDN": "ap-southeast-3",
    "IND": "ap-south-1 ap-south-2",
    "IRL": "eu-west-1",
    "ISR": "il-central-1",
    "ITA": "eu-south-1",
    "JPN": "ap-northeast-1 ap-northeast-3",
    "KOR": "ap-northeast-2",
    "MEX": "mx-central-1",
    "MYS": "ap-southeast-5",
    "NZL": "ap-southeast-6",
    "SGP": "ap-southeast-1",
    "SWE": "eu-north-1",
    "THA": "ap-southeast-7",
    "TWN": "ap-east-2",
    "USA": "us-east-1 us-east-2 us-gov-east-1 us-gov-west-1 us-west-1 us-west-2",
    "ZAF": "af-south-1",
}
_AZURE: Final = {
    "ARE": "uaecentral uaenorth",
    "AUS": "australiacentral australiacentral2 australiaeast australiasoutheast",
    "AUT": "austriaeast",
    "BEL": "belgiumcentral",
    "BRA": "brazilsouth brazilsoutheast",
    "CAN": "canadacentral canadaeast",
    "CHE": "switzerlandnorth switzerlandwest",
    "CHL": "chilecentral",
    "CHN": "chinaeast chinaeast2 chinaeast3 chinanorth chinanorth2 chinanorth3",
    "DEU": "germanynorth germanywestcentral",
    "DNK": "denmarkeast",
    "ESP": "spaincentral",
    "FRA": "francecentral francesouth",
    "GBR": "uksouth ukwest",
    "HKG": "eastasia",
    "IDN": "indonesiacentral",
    "IND": "centralindia indiasouthcentral jioindiacentral jioindiawest southindia westindia",
    "IRL": "northeurope",
    "ISR": "israelcentral",
    "ITA": "italynorth",
    "JPN": "japaneast japanwest",
    "KOR": "koreacentral koreasouth",
    "MEX": "mexicocentral",
    "MYS": "malaysiawest",
    "NLD": "westeurope",
    "NOR": "norwayeast norwaywest",
    "NZL": "newzealandnorth",
    "POL": "polandcentral",
    "QAT": "qatarcentral",
    "SAU": "saudiarabiaeast",
    "SGP": "southeastasia",
    "SWE": "swedencentral swedensouth",
    "USA": "centralus centraluseuap eastus eastus2 eastus2euap eastus3 northcentralus southcentralus"
    " usdodcentral usdodeast usgovarizona usgovtexas usgovvirginia westcentralus westus westus2 westus3",
    "ZAF": "southafricanorth southafricawest",
}
_GCP: Final = {
    "AUS": "australia-southeast1 australia-southeast2",
    "BEL": "europe-west1",
    "BRA": "southamerica-east1",
    "CAN": "northamerica-northeast1 northamerica-northeast2",
    "CHE": "europe-west6",
    "CHL": "southamerica-west1",
    "DEU": "europe-west10 europe-west3",
    "ESP": "europe-southwest1",
    "FIN": "europe-north1",
    "FRA": "europe-west9",
    "GBR": "europe-west2",
    "HKG": "asia-east2",
    "IDN": "asia-southeast2",
    "IND": "asia-south1 asia-south2",
    "ISR": "me-west1",
    "ITA": "europe-west12 europe-west8",
    "JPN": "asia-northeast1 asia-northeast2",
    "KOR": "asia-northeast3",
    "MEX": "northamerica-south1",
    "NLD": "europe-west4",
    "POL": "europe-central2",
    "QAT": "me-central1",
    "SAU": "me-central2",
    "SGP": "asia-southeast1",
    "SWE": "europe-north2",
    "THA": "asia-southeast3",
    "TWN": "asia-east1",
    "USA": "us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 us-west4",
    "ZAF": "africa-south1",
}
# Geographies and stages, which cloud-carbon-footprint lists among Azure's regions: no Node is there.
_NO_REGIONS: Final = """
    apeast apsoutheast asia asiapacific australia brazil canada centralusstage eastasiastage eastus2stage
    eastusstage france germany india japan korea northcentralusstage norway southafrica southcentralusstage
    southeastasiastage switzerland uae uk unitedstates unitedstateseuap usnorth westus2stage westusstage
"""
_MISSPELT: Final = {"me-cenrtal1": "me-central1"}  # by codecarbon 3.3.2


def countries(provider: str) -> dict[str, str]:
    """Return the country of each region of `provider`."""
    by_country = {"aws": _AWS, "azure": _AZURE, "gcp": _GCP}[provider]
    return {region: country for country, regions in by_country.items() for region in regions.split()}


def checked(provider: str, grams: Mapping[str, str]) -> dict[str, str]:
    """Return `grams` by region as Nodes are labelled, without the names that are no regions.

    Raises:
        ValueError: a name that is neither a region of `provider` nor known to be none.
    """
    none = set(_NO_REGIONS.split())
    lower = {_MISSPELT.get(name.lower(), name.lower()): value for name, value in grams.items()}
    if unknown := sorted(lower.keys() - countries(provider).keys() - none):
        raise ValueError(
            f"{provider}: {', '.join(unknown)} is no region of its list; add a new region with its country "
            "to tools/cloud_regions.py, or a misspelt name to _MISSPELT there"
        )
    return {region: value for region, value in sorted(lower.items()) if region not in none}
