package e2e

import "os"

// campaignVariable asks for the whole campaign: `make campaign` sets it.
const campaignVariable = "HOLDFAST_CAMPAIGN"

func wholeCampaign() bool { return os.Getenv(campaignVariable) != "" }
