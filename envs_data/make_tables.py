"""Write the tables of the `facts` suite from three openly licensed packages.

Sources, all under the MIT licence (texts in their wheels, notices in README.md beside this file):

- `elements.csv` from mendeleev 1.3.0, Copyright (c) 2015 Lukasz Mentel;
- `airports.csv` from airportsdata 20260905, Copyright (c) 2020- Mike Borsetti, with data Copyright (c) 2014 mwgg;
- `countries.csv` from countryinfo 1.0.1, Copyright (c) 2018 Porimol Chandro.

The packages are no dependency of this project: the CSV files are shipped. To write them again:

    pip install mendeleev==1.3.0 airportsdata==20260905 countryinfo==1.0.1
    python -m envs_data.make_tables

An empty field is a value that the source does not have, or has in more than one sense.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TABLES = Path(__file__).parent / "tables"
VERSIONS = {"mendeleev": "1.3.0", "airportsdata": "20260905", "countryinfo": "1.0.1"}

# Large airports that travellers know, chosen by hand: the source has no measure of size.
AIRPORT_CODES = """
ATL LAX ORD DFW DEN JFK SFO SEA LAS MCO EWR CLT PHX IAH MIA BOS MSP FLL DTW PHL LGA BWI SLC SAN IAD DCA MDW TPA PDX
HNL STL BNA AUS OAK SMF SJC RDU MCI CLE IND SAT PIT CVG CMH MKE JAX ABQ ANC OMA BUF BDL RIC SDF OKC TUL BOI ELP MEM
SNA BUR ONT PVD RNO TUS GEG ORF CHS SAV ALB ROC SYR DSM LIT BHM GRR MSY HOU DAL RSW PBI LGB KOA OGG LIH FAI JNU
YYZ YVR YUL YYC YEG YOW YHZ YWG YQB YXE YQR YYT YYJ MEX CUN GDL MTY TIJ SJD PVR MID BJX OAX
GUA SAL SAP TGU MGA SJO LIR PTY BZE HAV VRA SDQ PUJ STI PAP KIN MBJ NAS BGI POS ANU SXM AUA CUR SJU BDA
BOG MDE CTG CLO BAQ UIO GYE LIM CUZ AQP LPB VVI CBB SCL PMC ANF EZE AEP COR MDZ BRC IGR MVD ASU GIG GRU CGH VCP BSB
SDU CNF POA CWB REC SSA FOR BEL MAO FLN NAT CCS MAR GEO PBM CAY
LHR LGW STN LTN LCY MAN BHX EDI GLA BRS NCL LPL BFS ABZ CWL DUB SNN ORK CDG ORY NCE LYS MRS TLS BOD NTE BSL BVA
FRA MUC DUS TXL BER HAM STR CGN HAJ NUE LEJ DRS BRE FMM AMS EIN RTM BRU CRL LUX ZRH GVA BRN VIE SZG INN GRZ LNZ
MAD BCN AGP PMI ALC VLC SVQ BIO IBZ TFS TFN LPA ACE FUE SCQ LIS OPO FAO FNC PDL FCO CIA MXP LIN BGY VCE NAP BLQ PSA
FLR CTA PMO BRI TRN VRN CAG OLB MLA ATH SKG HER RHO CFU JTR CHQ LCA PFO CPH BLL AAL ARN GOT BMA MMX OSL BGO TRD SVG
TOS BOO HEL TMP OUL RVN TKU KEF TLL RIX VNO KUN WAW KRK GDN WRO KTW POZ PRG BRQ BTS KSC BUD DEB OTP CLJ TSR IAS SOF
VAR BOJ BEG NIS ZAG SPU DBV ZAD LJU SJJ SKP TIA TGD TIV PRN MSQ KBP IEV LWO ODS SVO DME VKO LED KZN AER SVX OVB
IST SAW ESB ADB AYT ADA DLM BJV TZX TBS BUS EVN GYD ALA NQZ TAS SKD DYU ASB
TLV ETM AMM AQJ BEY DAM BGW BSR EBL IKA THR MHD SYZ IFN KWI BAH DOH DXB AUH SHJ DWC MCT SLL RUH JED DMM MED SAH ADE
KBL ISB KHI LHE PEW DEL BOM BLR MAA HYD CCU COK AMD PNQ GOI TRV JAI LKO GAU CMB MLE KTM PBH DAC CGP
RGN MDL BKK DMK HKT CNX USM KBV HDY SGN HAN DAD CXR SAI VTE LPQ KUL PEN BKI KCH LGK JHB SIN BWN CGK DPS SUB KNO
UPG JOG MNL CEB CRK DVO ILO PEK PKX PVG SHA CAN SZX CTU CKG XIY KMG HGH NKG WUH CSX XMN TAO TSN DLC SHE HRB URC HAK
SYX FOC CGO LXA HKG MFM TPE TSA KHH RMQ ICN GMP PUS CJU TAE NRT HND KIX ITM NGO FUK CTS OKA SDJ HIJ KOJ ULN FNJ
CAI HRG SSH LXR ALG ORN CZL TUN DJE MIR CMN RAK AGA TNG FEZ TIP BEN KRT ADD ASM DIR NBO MBA KIS EBB KGL BJM DAR
JRO ZNZ DOD LUN LVI NLA HRE VFA BUQ LLW BLZ MPM BEW JNB CPT DUR PLZ ELS GRJ WDH WVB GBE MUB MSU LAD NBJ FIH FBM BZV
PNR LBV DLA NSI YAO SSG NDJ BGF LOS ABV KAN PHC ACC KMS LFW COO ABJ OUA BKO NIM DSS BJL CKY FNA ROB NKC RAI SID
MRU RUN SEZ TNR NOS HAH JIB HGA MGQ
SYD MEL BNE PER ADL OOL CNS CBR HBA DRW TSV LST AKL CHC WLG ZQN DUD NPE NSN NAN SUV POM HIR VLI NOU PPT APW TBU GUM
SPN ROR MAJ TRW FUN INU
"""

# Serbia's area in the source is Slovakia's.
WRONG_VALUES = {("Serbia", "area_km2")}


def write_number(value: float | None, digits: int = 10) -> str:
    """Write a number without an exponent, at most `digits` significant digits; a missing one is empty."""
    if value is None:
        return ""
    text = f"{float(f'{value:.{digits}g}'):.10f}"
    return text.rstrip("0").rstrip(".")


def elements() -> list[dict[str, Any]]:
    """Read the elements; what depends on the allotrope is left empty."""
    query = """
        select e.name, e.symbol, e.atomic_number, atomic_weight, period, group_id, block, s.name,
               case when p.id is null then null else density end, discovery_year, melting_point, boiling_point
        from elements e join series s on s.id = e.series_id
        left join phasetransitions p on p.atomic_number = e.atomic_number and p.allotrope is null
        order by e.atomic_number
    """
    with sqlite3.connect(_folder("mendeleev") / "elements.db") as database:
        found = database.execute(query).fetchall()
    return [
        {
            "name": name,
            "symbol": symbol,
            "atomic_number": number,
            "atomic_weight": write_number(weight),
            "period": period,
            "group": "" if group is None else group,
            "block": block,
            "series": series,
            "density": write_number(density, 6),
            "discovery_year": "" if year is None else year,
            "melting_point": write_number(melting, 6),
            "boiling_point": write_number(boiling, 6),
        }
        for name, symbol, number, weight, period, group, block, series, density, year, melting, boiling in found
    ]


def airports() -> list[dict[str, Any]]:
    """Read the airports of the list above, by IATA code."""
    wanted = set(AIRPORT_CODES.split())
    with (_folder("airportsdata") / "airports.csv").open(encoding="utf-8", newline="") as file:
        by_code = {row["iata"]: row for row in csv.DictReader(file) if row["iata"] in wanted}
    return [
        {
            "iata": code,
            "name": row["name"].strip(),
            "city": row["city"].strip(),
            "country": row["country"],
            "elevation_ft": round(float(row["elevation"])),
            "lat": write_number(float(row["lat"]), 6),
            "lon": write_number(float(row["lon"]), 6),
        }
        for code, row in sorted(by_code.items())
    ]


def countries() -> list[dict[str, Any]]:
    """Read the countries and territories that have a capital, a region, an area and a population."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted((_folder("countryinfo") / "data").glob("*.json")):
        source = json.loads(path.read_text(encoding="utf-8"))
        code = (source.get("ISO") or {}).get("alpha2")
        # Codes of states that no longer exist stand in the source beside those of their successors.
        if not code or code in ("AN", "CS") or not isinstance(source["capital"], str) or not source["capital"]:
            continue
        if not (source.get("region") and source.get("area") and source.get("population")):
            continue
        row = {
            "name": source["name"],
            "iso2": code,
            "capital": source["capital"],
            "region": source["region"],
            "subregion": source["subregion"],
            "area_km2": write_number(source["area"]),
            "population": source["population"],
            "neighbours": len(source.get("borders") or ()),
        }
        rows[code] = {field: "" if (row["name"], field) in WRONG_VALUES else row[field] for field in row}
    return sorted(rows.values(), key=lambda row: str(row["name"]))


def write_table(name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as a CSV file of UTF-8 with Unix line ends."""
    TABLES.mkdir(exist_ok=True)
    with (TABLES / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Check the versions of the sources and write the three tables."""
    for package, version in VERSIONS.items():
        try:
            installed = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed = "none"
        if installed != version:
            sys.exit(
                f"make_tables needs {package}=={version}, found {installed}: pip install {package}=={version}"
            )
    for name, read in (("elements", elements), ("airports", airports), ("countries", countries)):
        rows = read()
        write_table(name, rows)
        print(f"{name}.csv: {len(rows)} rows")


def _folder(package: str) -> Path:
    # Found, not imported: the data files are all that is needed.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"make_tables needs the package {package}")
    return Path(spec.origin).parent


if __name__ == "__main__":
    main()
