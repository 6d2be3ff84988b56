# Only Python 3.11 or later and make are needed; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests
INSTALLED := .venv/installed

.PHONY: quickstart test base resolve slow sign audit lint docs bench clean

quickstart: $(INSTALLED)  ## synthetic photographs -> records -> trained model -> report and class-activation maps
	@echo "1 of 4: drawing 250 patients, then cropping their 500 photographs into records"
	@$(BIN)/dr_tf records synthetic --patients 250 --side 320 --cameras full_circle \
	  --grade_shares 40,0,15,25,20 --findings_share 0 --image_size 256 \
	  --source quickstart/photographs --records quickstart/records --sheet quickstart/sheet.png --sheet_count 32
	@echo "2 of 4: training a small network on them"
	@$(BIN)/dr_tf train --gin_file quickstart --records quickstart/records --run_dir quickstart/run
	@echo "3 of 4: evaluating it on photographs of other patients"
	@test -d quickstart/run/evaluation || $(BIN)/dr_tf evaluate --run_dir quickstart/run --records quickstart/records
	@echo "4 of 4: drawing class-activation maps on eight photographs"
	@test -d quickstart/reasons || $(BIN)/dr_tf explain --run_dir quickstart/run --output quickstart/reasons \
	  $$(ls quickstart/photographs/images/* | tail -8)
	@echo "Look at quickstart/sheet.png (the photographs), quickstart/run/curves.png (the training),"
	@echo "quickstart/run/evaluation/*/report.html (its metrics) and quickstart/reasons/explanations.html (its class-activation maps)"
	@echo "The page of a clinic, with samples: $(BIN)/dr_tf app, or with this network: $(BIN)/dr_tf app --model quickstart/run"

test: $(INSTALLED)  ## run the whole suite, except slow tests
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

base:  ## test a base install, without any extra, in a virtual environment of its own
	@rm -rf .venv-base && $(PYTHON) -m venv .venv-base
	@.venv-base/bin/pip install --quiet --disable-pip-version-check -c constraints.txt .
	@du -sh .venv-base/lib/python*/site-packages
	@cd .venv-base && bin/python ../tests/base_install_test.py

resolve: $(INSTALLED)  ## check that all extras install together, at the versions in constraints.txt
	@$(BIN)/pip install --dry-run --quiet --disable-pip-version-check -c constraints.txt \
	  '.[train,keras_cv,litert,export,app,serve,dicom,excel,beam,bucket,docs,test]'

slow: $(INSTALLED)  ## run the tests that take longer
	$(BIN)/python -m pytest -m slow $(TESTS)

sign:  ## sign the model that comes with dr_tf: make sign KEY=private.pem (openssl genpkey -algorithm ed25519)
	@cd dr_tf/ready && find * -type f ! -name 'SHA256SUMS*' | LC_ALL=C sort | xargs sha256sum > SHA256SUMS
	@openssl pkeyutl -sign -rawin -inkey $(KEY) -in dr_tf/ready/SHA256SUMS -out dr_tf/ready/SHA256SUMS.sig
	@echo "PUBLIC_KEY in dr_tf/inference/ready.py: $$(openssl pkey -in $(KEY) -pubout -outform DER | tail -c 32 | od -An -v -tx1 | tr -d ' \n')"

audit:  ## check licences and known vulnerabilities, and write a software bill of materials to build/sbom.json
	@test -x .venv-audit/bin/python || $(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/pip install --quiet --disable-pip-version-check reuse==6.2.0 cyclonedx-bom==7.5.0 pip-audit==2.10.1
	@mkdir -p build && rm -f build/audit.json
	@.venv-audit/bin/reuse lint --quiet && echo "every file has a licence (REUSE.toml)"
	@.venv-audit/bin/cyclonedx-py requirements requirements.txt --output-reproducible -o build/sbom.json
	@echo "software bill of materials: build/sbom.json"
	@.venv-audit/bin/pip-audit --require-hashes --disable-pip -r requirements.txt -f json -o build/audit.json 2> build/audit.log; \
	  status=$$?; if grep -qs '"vulns"' build/audit.json; then tail -1 build/audit.log; exit $$status; \
	  else echo "known vulnerabilities were not checked: their list cannot be reached"; fi

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## build the documentation site into build/site
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build

bench: $(INSTALLED)  ## run every benchmark, one after the other
	@if [ -f benchmarks/requirements.txt ]; then $(BIN)/pip install -q -r benchmarks/requirements.txt; fi
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

clean:
	rm -rf .venv .venv-base .venv-audit quickstart build *.egg-info

$(INSTALLED): setup.py requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	@echo "Installing TensorFlow and the rest into .venv (about 3 GB, two to four minutes; only the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
