package blob

import (
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"net/http"
)

// fail returns an answer in the service's error shape: the code in a header and, with the message, in an XML body.
func fail(status int, code, message string) response { return failDetailed(status, code, message, "") }

// failDetailed also says what is wrong with the caller's credentials, "" for nothing.
func failDetailed(status int, code, message, detail string) response {
	body := struct {
		XMLName                   xml.Name `xml:"Error"`
		Code                      string
		Message                   string
		AuthenticationErrorDetail string `xml:",omitempty"`
	}{Code: code, Message: message + "\nRequestId:" + requestID(), AuthenticationErrorDetail: detail}
	answer := xmlResponse(status, body)
	answer.header.Set("X-Ms-Error-Code", code)
	return answer
}

func xmlResponse(status int, body any) response {
	text, err := xml.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("blob: encode %T: %v", body, err)) // only the structs of this package come here
	}
	header := http.Header{"Content-Type": {"application/xml"}}
	return response{status: status, header: header, body: append([]byte(xml.Header), text...)}
}

func notFound() response {
	return fail(http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
}

func conditionNotMet() response {
	return fail(http.StatusPreconditionFailed, "ConditionNotMet", "The condition specified using HTTP conditional header(s) is not met.")
}

func diskFailure(err error) response {
	return fail(http.StatusInternalServerError, "InternalError", "The server encountered an internal error: "+err.Error())
}

// requestID returns a random identifier in the shape of a GUID.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
